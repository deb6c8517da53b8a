//! What a validated token says.

use std::collections::BTreeMap;

use crate::StringMatch;

/// The claims of a token whose signature, issuer and times are already checked.
///
/// The issuer is the claim `iss`, the subject `sub`, the audiences `aud`, the presenter `azp`. Of values, only
/// texts and lists of texts ever match.
///
/// ```
/// use mesh_policy::waypoint::{ClaimValue, Claims};
///
/// let claims: Claims = [
///     ("iss".to_owned(), ClaimValue::from("https://issuer.example.org")),
///     ("groups".to_owned(), ClaimValue::List(vec!["admin".into(), "dev".into()])),
/// ]
/// .into_iter()
/// .collect();
/// assert!(claims.get("iss").is_some());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims(BTreeMap<String, ClaimValue>);

/// The value of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimValue {
    /// A list.
    List(Vec<Self>),
    /// Claims within a claim.
    Object(Claims),
    /// A number, a boolean, or nothing.
    Other,
    /// A text.
    Text(String),
}

impl Claims {
    /// The value of a claim.
    pub fn get(&self, name: &str) -> Option<&ClaimValue> {
        self.0.get(name)
    }

    /// The value that a path of names leads to.
    pub(crate) fn find(&self, path: &[Box<str>]) -> Option<&ClaimValue> {
        let (first, rest) = path.split_first()?;
        let value = self.get(first)?;
        match value {
            _ if rest.is_empty() => Some(value),
            ClaimValue::Object(claims) => claims.find(rest),
            _ => None,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            ClaimValue::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl ClaimValue {
    /// Whether the text, or one of the texts of the list, fits.
    pub(crate) fn has_text(&self, pattern: &StringMatch, in_list: bool) -> bool {
        matches!(self, Self::List(_)) == in_list && self.texts().any(|text| pattern.matches(text))
    }

    /// The text, or the texts of the list.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let values = match self {
            Self::List(values) => values.as_slice(),
            _ => std::slice::from_ref(self),
        };
        values.iter().filter_map(|value| match value {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }
}

/// Of claims with the same name, the last counts, as in JSON.
impl FromIterator<(String, ClaimValue)> for Claims {
    fn from_iter<I: IntoIterator<Item = (String, ClaimValue)>>(claims: I) -> Self {
        Self(claims.into_iter().collect())
    }
}

impl From<&str> for ClaimValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[cfg(feature = "crd")]
mod read {
    use std::fmt;

    use serde::{
        Deserialize, Deserializer,
        de::{MapAccess, SeqAccess, Visitor},
    };

    use super::{ClaimValue, Claims};

    impl<'de> Deserialize<'de> for Claims {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Deserialize::deserialize(deserializer).map(Self)
        }
    }

    impl<'de> Deserialize<'de> for ClaimValue {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(AnyValue)
        }
    }

    struct AnyValue;

    impl<'de> Visitor<'de> for AnyValue {
        type Value = ClaimValue;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a claim")
        }

        fn visit_bool<E>(self, _: bool) -> Result<ClaimValue, E> {
            Ok(ClaimValue::Other)
        }

        fn visit_i64<E>(self, _: i64) -> Result<ClaimValue, E> {
            Ok(ClaimValue::Other)
        }

        fn visit_u64<E>(self, _: u64) -> Result<ClaimValue, E> {
            Ok(ClaimValue::Other)
        }

        fn visit_f64<E>(self, _: f64) -> Result<ClaimValue, E> {
            Ok(ClaimValue::Other)
        }

        fn visit_unit<E>(self) -> Result<ClaimValue, E> {
            Ok(ClaimValue::Other)
        }

        fn visit_str<E>(self, text: &str) -> Result<ClaimValue, E> {
            Ok(text.into())
        }

        fn visit_string<E>(self, text: String) -> Result<ClaimValue, E> {
            Ok(ClaimValue::Text(text))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ClaimValue, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = list.next_element()? {
                values.push(value);
            }
            Ok(ClaimValue::List(values))
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ClaimValue, A::Error> {
            let mut claims = Claims::default();
            while let Some((name, value)) = map.next_entry()? {
                claims.0.insert(name, value);
            }
            Ok(ClaimValue::Object(claims))
        }
    }
}

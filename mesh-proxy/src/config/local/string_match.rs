use std::fmt;

use mesh_policy::StringMatch;
use serde::{
    de::{Deserialize, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, VariantAccess, Visitor},
    ser::{Serialize, SerializeTupleVariant, Serializer},
};

/// A way to match a string. Written as Istio's node proxy does: `!Exact text` in YAML, `{"Exact": "text"}` in
/// JSON.
///
/// Read in either form, because files are often written by tools that know no YAML tags.
#[derive(Clone, Debug)]
pub(super) struct StringMatchDocument(pub(super) StringMatch);

impl Serialize for StringMatchDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (index, kind, text) = match &self.0 {
            StringMatch::Exact(text) => (0, EXACT, text),
            StringMatch::Prefix(text) => (1, PREFIX, text),
            StringMatch::Suffix(text) => (2, SUFFIX, text),
            StringMatch::Presence => {
                return serializer.serialize_tuple_variant(NAME, 3, PRESENCE, 0)?.end();
            }
        };
        serializer.serialize_newtype_variant(NAME, index, kind, text)
    }
}

impl<'de> Deserialize<'de> for StringMatchDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StringMatchVisitor).map(Self)
    }
}

struct StringMatchVisitor;

impl<'de> Visitor<'de> for StringMatchVisitor {
    type Value = StringMatch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`!Exact text`, `!Prefix text`, `!Suffix text` or `!Presence []`")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<StringMatch, A::Error> {
        let (kind, value) = tagged.variant::<String>()?;
        match kind.as_str() {
            PRESENCE => nothing(value.newtype_variant()?),
            _ => with_text(&kind, || value.newtype_variant()),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringMatch, A::Error> {
        let Some(kind) = map.next_key::<String>()? else {
            return Err(A::Error::invalid_length(0, &self));
        };
        let found = match kind.as_str() {
            PRESENCE => nothing(map.next_value()?)?,
            _ => with_text(&kind, || map.next_value())?,
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(found),
            Some(_) => Err(A::Error::invalid_length(2, &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StringMatch, E> {
        if text == PRESENCE {
            return Ok(StringMatch::Presence);
        }
        Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

fn with_text<E: Error>(kind: &str, text: impl FnOnce() -> Result<String, E>) -> Result<StringMatch, E> {
    match kind {
        EXACT => Ok(StringMatch::Exact(text()?.into())),
        PREFIX => Ok(StringMatch::Prefix(text()?.into())),
        SUFFIX => Ok(StringMatch::Suffix(text()?.into())),
        _ => Err(E::unknown_variant(kind, &[EXACT, PREFIX, SUFFIX, PRESENCE])),
    }
}

/// Presence takes no text; giving it one would read as if it mattered.
fn nothing<E: Error>(content: Option<Vec<IgnoredAny>>) -> Result<StringMatch, E> {
    match content {
        Some(content) if !content.is_empty() => Err(E::invalid_length(content.len(), &"`!Presence []`")),
        _ => Ok(StringMatch::Presence),
    }
}

const NAME: &str = "StringMatch";
const EXACT: &str = "Exact";
const PREFIX: &str = "Prefix";
const SUFFIX: &str = "Suffix";
const PRESENCE: &str = "Presence";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<StringMatch, serde_yaml_ng::Error> {
        serde_yaml_ng::from_str(yaml).map(|StringMatchDocument(found)| found)
    }

    // control-plane#74
    #[test]
    fn tags_and_maps_mean_the_same() {
        for yaml in ["!Exact a/b", "{Exact: a/b}", "Exact: a/b"] {
            assert_eq!(read(yaml).unwrap(), StringMatch::Exact("a/b".into()), "{yaml}");
        }
        assert_eq!(read("!Prefix a").unwrap(), StringMatch::Prefix("a".into()));
        assert_eq!(read("{Suffix: b}").unwrap(), StringMatch::Suffix("b".into()));
        for yaml in ["!Presence []", "{Presence: []}", "{Presence: null}", "Presence"] {
            assert_eq!(read(yaml).unwrap(), StringMatch::Presence, "{yaml}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for yaml in
            ["plain", "!Regex x", "{Exact: a, Prefix: b}", "{}", "!Presence [x]", "[]", "7", "!Exact [a]"]
        {
            assert!(read(yaml).is_err(), "{yaml}");
        }
    }

    #[test]
    fn json_shows_maps() {
        let shown = |found| serde_json::to_string(&StringMatchDocument(found)).unwrap();
        assert_eq!(shown(StringMatch::Exact("a".into())), r#"{"Exact":"a"}"#);
        assert_eq!(shown(StringMatch::Presence), r#"{"Presence":[]}"#);
    }
}

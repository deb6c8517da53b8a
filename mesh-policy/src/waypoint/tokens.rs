//! Where tokens are in requests, and what follows from them.

use http::{
    HeaderName,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};

use super::{Mesh, RequestFacts, Target, header::Header};
use crate::object::{JwtRule, RequestAuthentication};

/// The RequestAuthentications of one target: which tokens count, and where they are.
///
/// Tokens are found here and validated elsewhere; what their validation leads to is decided here again. A request
/// without a token goes on, and policies see no claims. One with a token that is not valid is refused with the
/// status 401 before any policy is asked.
#[derive(Clone, Debug, Default)]
pub struct TokenRules {
    rules: Vec<TokenRule>,
}

#[derive(Clone, Debug)]
struct TokenRule {
    rule: JwtRule,
    places: Vec<Place>,
}

#[derive(Clone, Debug)]
enum Place {
    Cookie { header: Header, name: String },
    Header { header: Header, prefix: String },
    Parameter(String),
}

/// A token of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Who it has to be from, and for.
    pub rule: &'a JwtRule,
    /// The token.
    pub text: &'a str,
}

/// What the tokens of a request were found to be, by one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenState {
    /// There is one that is not valid: of another issuer, expired, for another audience, or wrongly signed.
    Invalid,
    /// There is none where the rule looks for it.
    Missing,
    /// There is one, and it is valid.
    Valid,
}

/// What becomes of a request because of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// It goes on, with the claims of the token that the rule found valid, if one did.
    Continue(Option<&'a JwtRule>),
    /// It is refused with the status 401.
    Unauthorized,
}

impl TokenRules {
    /// The rules of the objects that apply to a target, by issuer.
    pub fn new<'a>(
        objects: impl IntoIterator<Item = &'a RequestAuthentication>,
        target: &Target<'_>,
        mesh: &Mesh,
    ) -> Self {
        let applying = objects.into_iter().filter(|object| object.applies_to(target, mesh));
        let rules = applying.flat_map(|object| &object.jwt_rules).map(TokenRule::new);
        let mut rules: Vec<_> = rules.collect();
        // Stable, so that of one issuer's rules the first written comes first.
        rules.sort_by(|a, b| a.rule.issuer.cmp(&b.rule.issuer));
        Self { rules }
    }

    /// Whether there are none, so that no token is looked for.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The tokens of a request: for each rule, in the order of their issuers, those where the rule looks.
    ///
    /// Without places of its own, a rule looks for `Authorization: Bearer …`, then for the query parameter
    /// `access_token`. None in a preflight of CORS, which browsers send without credentials and which Istio exempts:
    /// `OPTIONS` with the headers `origin` and `access-control-request-method`.
    pub fn tokens<'a>(&'a self, facts: &'a RequestFacts<'a>) -> impl Iterator<Item = Token<'a>> {
        let rules = if is_preflight(facts) { &[] } else { self.rules.as_slice() };
        rules.iter().flat_map(move |rule| {
            let texts = rule.places.iter().flat_map(move |place| place.texts(facts));
            texts.map(|text| Token { rule: &rule.rule, text })
        })
    }

    /// Decides by what each rule found, which is asked once for each rule at most.
    ///
    /// One valid token is enough, whatever others are; without one, none may be invalid.
    pub fn decide(&self, mut state: impl FnMut(&JwtRule) -> TokenState) -> Authentication<'_> {
        let mut any_invalid = false;
        for TokenRule { rule, .. } in &self.rules {
            match state(rule) {
                TokenState::Valid => return Authentication::Continue(Some(rule)),
                TokenState::Invalid => any_invalid = true,
                TokenState::Missing => {}
            }
        }
        if any_invalid { Authentication::Unauthorized } else { Authentication::Continue(None) }
    }
}

impl TokenRule {
    fn new(rule: &JwtRule) -> Self {
        let headers = rule
            .from_headers
            .iter()
            .map(|from| Place::Header { header: Header::new(&from.name), prefix: from.prefix.clone() });
        let cookies = rule
            .from_cookies
            .iter()
            .map(|name| Place::Cookie { header: Header::new("cookie"), name: name.clone() });
        let parameters = rule.from_params.iter().cloned().map(Place::Parameter);
        let mut places: Vec<_> = headers.chain(parameters).chain(cookies).collect();
        if rule.from_headers.is_empty() && rule.from_params.is_empty() && rule.from_cookies.is_empty() {
            let header = Header::new("authorization");
            places.push(Place::Header { header, prefix: "Bearer ".to_owned() });
            places.push(Place::Parameter("access_token".to_owned()));
        }
        Self { rule: rule.clone(), places }
    }
}

impl Place {
    /// What is there, without what is written around it.
    fn texts<'a>(&'a self, request: &'a RequestFacts<'a>) -> impl Iterator<Item = &'a str> {
        let (header, parameter, cookie) = match self {
            Self::Cookie { header, name } => (None, None, Some((header, name))),
            Self::Header { header, prefix } => (Some((header, prefix)), None, None),
            Self::Parameter(name) => (None, Some(name), None),
        };
        let in_headers = header.into_iter().flat_map(move |(header, prefix)| {
            texts(header, request).filter_map(|line| line.strip_prefix(prefix.as_str()))
        });
        let in_query = parameter.into_iter().flat_map(move |name| {
            let query = request.path.query().unwrap_or_default();
            query.split('&').filter_map(move |pair| value_of(name, pair))
        });
        let in_cookies = cookie.into_iter().flat_map(move |(header, name)| {
            let cookies = texts(header, request).flat_map(|line| line.split(';'));
            cookies.filter_map(move |pair| value_of(name, pair.trim_ascii()))
        });
        in_headers.chain(in_query).chain(in_cookies)
    }
}

fn is_preflight(facts: &RequestFacts<'_>) -> bool {
    let has = |name: HeaderName| Header::new(name.as_str()).lines(facts).next().is_some();
    facts.method == "OPTIONS" && has(ORIGIN) && has(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The lines of a header that are texts.
fn texts<'a>(header: &'a Header, request: &'a RequestFacts<'a>) -> impl Iterator<Item = &'a str> {
    header.lines(request).filter_map(|line| str::from_utf8(line).ok())
}

/// The value in `name=value`.
fn value_of<'a>(name: &str, pair: &'a str) -> Option<&'a str> {
    pair.strip_prefix(name)?.strip_prefix('=')
}

//! What is wrong, or not as it looks, with an object.

mod code;
mod path;

pub use code::{Code, Level};
pub(crate) use path::Path;

use std::{borrow::Cow, fmt, sync::Arc};

use crate::object::Metadata;

/// One thing to know about one object: what, where, and what to write instead.
///
/// Displayed on one line: `mesh.yaml:17: AuthorizationPolicy shop/cart: spec.rules[0].to[0].operation.ports[0] "65616":
/// the port is not a number up to 65535; write the number of a port, …`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// Which kind of thing.
    pub code: Code,
    /// How bad it is; that of the code.
    pub level: Level,
    /// The object.
    pub object: ObjectRef,
    /// Where the object was read, if it was read from a text.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Option::is_none"))]
    pub place: Option<Place>,
    /// The field, in the notation of Kubernetes; empty for the object as a whole.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "String::is_empty"))]
    pub path: String,
    /// The value found there, if one value is the point.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Option::is_none"))]
    pub value: Option<String>,
    /// What is the case.
    pub problem: Cow<'static, str>,
    /// What to write instead, or to do.
    pub instead: Cow<'static, str>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}:", self.object)?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        if let Some(value) = &self.value {
            write!(f, " {value:?}")?;
        }
        if !self.path.is_empty() || self.value.is_some() {
            f.write_str(":")?;
        }
        write!(f, " {}; {}", self.problem, self.instead)
    }
}

/// Where an object was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "crd", derive(serde::Serialize))]
pub struct Place {
    /// The file, as its reader calls it; nothing for a text that is in none.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Option::is_none"))]
    pub file: Option<Arc<str>>,
    /// The number of the document, counted from 1.
    pub document: usize,
    /// The line on which the document starts or, of an error of syntax, the line of the error; counted from 1.
    pub line: usize,
}

/// Displayed as `mesh.yaml:17`, which editors follow, or as `document 2, line 17`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{file}:{}", self.line),
            None => write!(f, "document {}, line {}", self.document, self.line),
        }
    }
}

/// Names an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "crd", derive(serde::Serialize))]
pub struct ObjectRef {
    /// Its kind, such as `AuthorizationPolicy`.
    pub kind: Cow<'static, str>,
    /// Its namespace.
    pub namespace: String,
    /// Its name within the namespace.
    pub name: String,
}

impl ObjectRef {
    /// Names the object of a kind that has the metadata.
    pub fn new(kind: impl Into<Cow<'static, str>>, metadata: &Metadata) -> Self {
        Self { kind: kind.into(), namespace: metadata.namespace.clone(), name: metadata.name.clone() }
    }
}

/// Displayed as `kind namespace/name`, as far as each is known.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind.is_empty() { "object" } else { &self.kind };
        if self.name.is_empty() {
            return f.write_str(kind);
        }
        write!(f, "{kind} {}/{}", self.namespace, self.name)
    }
}

/// Collects findings about one object.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    object: &'a ObjectRef,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(object: &'a ObjectRef, findings: &'a mut Vec<Finding>) -> Self {
        Self { object, findings }
    }

    /// Adds a finding about a field.
    pub(crate) fn add(&mut self, code: Code, path: Path<'_>) {
        self.push(code, path, None, code.instead().into());
    }

    /// Adds a finding about a value.
    pub(crate) fn value(&mut self, code: Code, path: Path<'_>, value: &str) {
        self.push(code, path, Some(value.to_owned()), code.instead().into());
    }

    /// Adds a finding about a value, and what to write in this very case.
    pub(crate) fn value_with(&mut self, code: Code, path: Path<'_>, value: &str, instead: String) {
        self.push(code, path, Some(value.to_owned()), instead.into());
    }

    /// Adds a finding about a field, and what to write in this very case.
    pub(crate) fn add_with(&mut self, code: Code, path: Path<'_>, instead: String) {
        self.push(code, path, None, instead.into());
    }

    fn push(&mut self, code: Code, path: Path<'_>, value: Option<String>, instead: Cow<'static, str>) {
        self.findings.push(Finding {
            code,
            level: code.level(),
            object: self.object.clone(),
            place: None,
            path: path.to_string(),
            value,
            problem: code.summary().into(),
            instead,
        });
    }
}

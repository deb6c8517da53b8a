//! The way to a field.

use std::fmt;

/// The way from the root of an object to one of its fields, written only when something is found there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path<'a> {
    Root,
    Field(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl<'a> Path<'a> {
    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        Self::Field(self, name)
    }

    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) if name.contains(['.', '/', '[']) => write!(f, "{parent}[{name}]"),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_kubernetes_does() {
        let spec = Path::Root.field("spec");
        let rules = spec.field("rules");
        assert_eq!(rules.index(2).field("from").index(0).to_string(), "spec.rules[2].from[0]");
        let annotations = Path::Root.field("metadata");
        let annotations = annotations.field("annotations");
        assert_eq!(
            annotations.field("istio.io/dry-run").to_string(),
            "metadata.annotations[istio.io/dry-run]"
        );
    }
}

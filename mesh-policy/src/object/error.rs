//! Why objects are refused.

use std::fmt;

use crate::Finding;

/// Objects that cannot be used as they are written: which, where in them, the value, and what to write instead.
///
/// Whoever gets one keeps the last good set; to go on without the objects may widen access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectError {
    findings: Vec<Finding>,
}

impl ObjectError {
    /// Nothing if nothing was found.
    pub(crate) fn new(findings: Vec<Finding>) -> Option<Self> {
        (!findings.is_empty()).then_some(Self { findings })
    }

    /// Everything that stands in the way; never empty.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}

impl std::error::Error for ObjectError {}

/// Displayed as the first finding, and how many more there are.
impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.findings.first() {
            write!(f, "{first}")?;
        }
        match self.findings.len() {
            0 | 1 => Ok(()),
            several => write!(f, " (and {} more)", several - 1),
        }
    }
}

use std::{collections::BTreeMap, num::NonZeroUsize, str::FromStr, time::Duration};

use super::EnvironmentError;
use crate::{byte_count, duration};

/// Environment variables, read as what they mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variables<'a>(&'a BTreeMap<String, String>);

impl<'a> Variables<'a> {
    pub(super) fn new(variables: &'a BTreeMap<String, String>) -> Self {
        Self(variables)
    }

    /// All names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A value as it is, where an empty one means something.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str)
    }

    /// A value; an empty one counts as none.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    /// The first of two that has a value.
    pub(super) fn either(&self, first: &str, second: &str) -> Option<&'a str> {
        self.text(first).or_else(|| self.text(second))
    }

    pub(super) fn parsed<T: FromStr>(
        &self,
        name: &'static str,
        accepted: &'static str,
    ) -> Result<Option<T>, EnvironmentError> {
        self.read(name, accepted, |value| value.parse().ok())
    }

    pub(super) fn boolean(&self, name: &'static str) -> Result<Option<bool>, EnvironmentError> {
        self.parsed(name, "true or false")
    }

    pub(super) fn number(&self, name: &'static str) -> Result<Option<u32>, EnvironmentError> {
        self.parsed(name, "a decimal number from 0 to 4294967295")
    }

    pub(super) fn positive(&self, name: &'static str) -> Result<Option<NonZeroUsize>, EnvironmentError> {
        self.parsed(name, "a decimal number from 1")
    }

    pub(super) fn bytes(&self, name: &'static str) -> Result<Option<usize>, EnvironmentError> {
        self.read(
            name,
            "a number of bytes from 1, or of Ki, Mi or Gi of them such as 512Mi",
            byte_count::parse,
        )
    }

    pub(super) fn duration(&self, name: &'static str) -> Result<Option<Duration>, EnvironmentError> {
        self.read(name, "a duration such as 500ms, 5s, 1m or 1h30m", duration::parse)
    }

    /// Reads a value by `parse`; `None` from it means that the value is not accepted.
    pub(super) fn read<T>(
        &self,
        name: &'static str,
        accepted: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, EnvironmentError> {
        let Some(value) = self.text(name) else { return Ok(None) };
        parse(value).map(Some).ok_or_else(|| EnvironmentError::invalid(name, value, accepted))
    }
}

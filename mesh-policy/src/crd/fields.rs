//! Reads the fields of a map and reports what it does not expect.

use std::collections::BTreeMap;

use serde_yaml_ng::{Mapping, Value};

use crate::{
    Code,
    finding::{Path, Report},
};

/// The fields of a map. `null` is the same as nothing, as in Kubernetes.
pub(super) struct Fields<'v, 'p> {
    map: &'v Mapping,
    path: Path<'p>,
    known: Vec<&'static str>,
}

impl<'v, 'p> Fields<'v, 'p> {
    /// Nothing, after a report, if the value is not a map.
    pub(super) fn open(value: &'v Value, path: Path<'p>, report: &mut Report<'_>) -> Option<Self> {
        match value {
            Value::Mapping(map) => Some(Self { map, path, known: Vec::new() }),
            _ => {
                wrong_type(value, "a map", path, report);
                None
            }
        }
    }

    pub(super) fn path(&self) -> &Path<'p> {
        &self.path
    }

    pub(super) fn get(&mut self, name: &'static str) -> Option<&'v Value> {
        self.known.push(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn string(&mut self, name: &'static str, report: &mut Report<'_>) -> Option<String> {
        let value = self.get(name)?;
        text(value, self.path.field(name), report)
    }

    pub(super) fn flag(&mut self, name: &'static str, report: &mut Report<'_>) -> bool {
        match self.get(name) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(value) => {
                wrong_type(value, "true or false", self.path.field(name), report);
                false
            }
        }
    }

    /// The elements of a list, none of which is nothing.
    pub(super) fn list(&mut self, name: &'static str, report: &mut Report<'_>) -> Option<&'v [Value]> {
        match self.get(name)? {
            Value::Sequence(list) => Some(list),
            value => {
                wrong_type(value, "a list", self.path.field(name), report);
                None
            }
        }
    }

    /// The texts of a list. One that is there and empty is reported: it looks like a restriction.
    pub(super) fn strings(&mut self, name: &'static str, report: &mut Report<'_>) -> Vec<String> {
        let Some(list) = self.list(name, report) else { return Vec::new() };
        let path = self.path.field(name);
        if list.is_empty() {
            report.add(Code::EmptyList, path);
        }
        list.iter().enumerate().filter_map(|(index, value)| text(value, path.index(index), report)).collect()
    }

    /// What is read of each element of a list.
    pub(super) fn each<T>(
        &mut self,
        name: &'static str,
        report: &mut Report<'_>,
        read: impl Fn(&'v Value, Path<'_>, &mut Report<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(list) = self.list(name, report) else { return Vec::new() };
        let path = self.path.field(name);
        list.iter().enumerate().filter_map(|(index, value)| read(value, path.index(index), report)).collect()
    }

    pub(super) fn texts_by_name(
        &mut self,
        name: &'static str,
        report: &mut Report<'_>,
    ) -> BTreeMap<String, String> {
        let Some(value) = self.get(name) else { return BTreeMap::new() };
        let path = self.path.field(name);
        let Value::Mapping(map) = value else {
            wrong_type(value, "a map", path, report);
            return BTreeMap::new();
        };
        let entries = map.iter().filter_map(|(key, value)| {
            let key = text(key, path, report)?;
            let value = text(value, path.field(&key), report)?;
            Some((key, value))
        });
        entries.collect()
    }

    /// Skips fields that have no meaning here.
    pub(super) fn ignore(&mut self, names: &[&'static str]) {
        self.known.extend_from_slice(names);
    }

    /// Reports the fields that nobody asked for.
    pub(super) fn close(self, report: &mut Report<'_>) {
        for (key, value) in self.map {
            let name = key.as_str().map_or_else(|| scalar(key).unwrap_or_default(), str::to_owned);
            if value.is_null() || self.known.contains(&name.as_str()) {
                continue;
            }
            let path = self.path.field(&name);
            match self.known.iter().find(|known| is_similar(known, &name)) {
                Some(known) => report.add_with(Code::UnknownField, path, format!("write `{known}`")),
                None => report.add(Code::UnknownField, path),
            }
        }
    }
}

pub(super) fn text(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        _ => {
            wrong_type(value, "a text", path, report);
            None
        }
    }
}

pub(super) fn wrong_type(value: &Value, expected: &str, path: Path<'_>, report: &mut Report<'_>) {
    match scalar(value) {
        Some(found) if expected == "a text" => {
            report.value_with(Code::WrongType, path, &found, format!("write it in quotes: \"{found}\""));
        }
        Some(found) => report.value_with(Code::WrongType, path, &found, format!("write {expected}")),
        None => report.add_with(Code::WrongType, path, format!("write {expected}")),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Null => Some("null".into()),
        Value::Mapping(_) | Value::Sequence(_) | Value::Tagged(_) => None,
    }
}

/// Whether two names differ in case, in a plural or in one letter.
fn is_similar(known: &str, written: &str) -> bool {
    if known.eq_ignore_ascii_case(written) {
        return true;
    }
    let (long, short) = if known.len() >= written.len() { (known, written) } else { (written, known) };
    let prefix = long.bytes().zip(short.bytes()).take_while(|(a, b)| a == b).count();
    let suffix = long.bytes().rev().zip(short.bytes().rev()).take_while(|(a, b)| a == b).count();
    // One letter more, one letter else, or two letters swapped.
    let rest = |text: &str| text.len().saturating_sub(prefix + suffix);
    short.len() > 2 && long.len() - short.len() <= 1 && rest(long) <= 2 && rest(short) <= 2
}

//! Explanations as data for machines.

use serde::{
    Serialize, Serializer,
    ser::{SerializeSeq, SerializeStruct},
};

use super::{Actual, ClauseMiss, Expected, Explanation, MatchMiss, Mismatch, PolicyTrace, RuleTrace};
use crate::{PolicyName, Reason};

impl Serialize for Explanation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let denials: Vec<_> = self.decision.dry_run_denials().collect();
        let mut explanation = serializer.serialize_struct("Explanation", 4)?;
        decision(&mut explanation, self.decision.reason, &denials)?;
        explanation.serialize_field("policies", &self.policies)?;
        explanation.end()
    }
}

/// What explanations of connections, streams and requests begin with.
pub(crate) fn decision<S: SerializeStruct>(
    explanation: &mut S,
    reason: Reason<'_>,
    dry_run_denials: &[&PolicyName],
) -> Result<(), S::Error> {
    explanation.serialize_field("verdict", &reason.verdict())?;
    explanation.serialize_field("reason", &reason)?;
    explanation.serialize_field("dryRunDenials", dry_run_denials)
}

impl Serialize for PolicyTrace<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = 5 + usize::from(self.object.is_some());
        let mut policy = serializer.serialize_struct("PolicyTrace", fields)?;
        policy.serialize_field("policy", &self.policy.name)?;
        match &self.object {
            Some(object) => policy.serialize_field("object", object)?,
            None => policy.skip_field("object")?,
        }
        policy.serialize_field("action", &self.policy.action)?;
        policy.serialize_field("dryRun", &self.policy.dry_run)?;
        policy.serialize_field("matches", &self.matches())?;
        policy.serialize_field("rules", &self.rules)?;
        policy.end()
    }
}

impl Serialize for RuleTrace<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rule = serializer.serialize_struct("RuleTrace", 3)?;
        rule.serialize_field("index", &self.index)?;
        rule.serialize_field("matching", &self.matching)?;
        rule.serialize_field("miss", &self.miss)?;
        rule.end()
    }
}

impl Serialize for ClauseMiss<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut miss = serializer.serialize_struct("ClauseMiss", 2)?;
        miss.serialize_field("clause", &self.index)?;
        miss.serialize_field("matches", &self.matches)?;
        miss.end()
    }
}

/// Nothing for a match without fields, which never matches.
impl Serialize for MatchMiss<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Empty => serializer.serialize_none(),
            Self::Field(mismatch) => mismatch.serialize(serializer),
        }
    }
}

impl Serialize for Mismatch<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut mismatch = serializer.serialize_struct("Mismatch", 4)?;
        mismatch.serialize_field("field", &self.field)?;
        mismatch.serialize_field("negated", &self.negated)?;
        mismatch.serialize_field("expected", &self.expected)?;
        mismatch.serialize_field("actual", &self.actual)?;
        mismatch.end()
    }
}

/// All values, as policies write them; ports as numbers.
impl Serialize for Expected<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Ips(ranges) => texts(serializer, ranges),
            Self::Ports(ports) => ports.serialize(serializer),
            Self::ServiceAccounts(accounts) => texts(serializer, accounts),
            Self::Strings(patterns) => texts(serializer, patterns),
        }
    }
}

fn texts<S: Serializer>(serializer: S, values: &[impl ToString]) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(values.len()))?;
    values.iter().try_for_each(|value| list.serialize_element(&value.to_string()))?;
    list.end()
}

/// Nothing if it is absent; a port as a number.
impl Serialize for Actual<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_none(),
            Self::Port(port) => serializer.serialize_u16(*port),
            Self::Ip(_) | Self::ServiceAccount { .. } | Self::Text(_) => serializer.collect_str(self),
        }
    }
}

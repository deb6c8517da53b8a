use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue};

use super::header::{self, is_token};

/// What one end of a tunnel says about a workload: the `baggage` header in Istio's vocabulary (W3C Baggage).
///
/// It is metadata for logs and metrics, chosen freely by the peer: never decide about access by it.
///
/// ```
/// # use hbone::{Baggage, WorkloadKind};
/// let baggage = Baggage::new().with_namespace("shop").with_workload(WorkloadKind::Deployment, "cart");
/// assert_eq!(baggage.to_string(), "k8s.namespace.name=shop,k8s.deployment.name=cart");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Baggage {
    cluster: Option<Arc<str>>,
    namespace: Option<Arc<str>>,
    workload: Option<(WorkloadKind, Arc<str>)>,
    service_name: Option<Arc<str>>,
    service_version: Option<Arc<str>>,
    region: Option<Arc<str>>,
    zone: Option<Arc<str>>,
    others: Vec<Member>,
}

/// A member with a key that has no meaning here, kept for those to whom it has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Member {
    key: Arc<str>,
    value: Arc<str>,
    /// What follows the value, as it stood: `;` and properties, or nothing.
    properties: Arc<str>,
}

/// What kind of object owns a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkloadKind {
    /// A CronJob.
    CronJob,
    /// A Deployment.
    Deployment,
    /// A Job.
    Job,
    /// A pod without an owner of a known kind.
    Pod,
}

impl Baggage {
    /// Says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the `baggage` of a request or response; `None` if it has none.
    ///
    /// Reading never fails: members that are malformed are skipped, of equal ones the last counts, and what exceeds 64
    /// members or 8192 bytes (W3C Baggage §3.3.2) is not looked at. Members with other keys are kept, with their
    /// properties, and [written](fmt::Display) after the known ones; see [`member`](Self::member).
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(header::BAGGAGE) {
            return None;
        }
        let lines = headers.get_all(header::BAGGAGE).iter().filter_map(|line| line.to_str().ok());
        Some(Self::from_lines(lines))
    }

    /// Reads header lines, with the leniency of [`from_headers`](Self::from_headers).
    pub fn from_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut baggage = Self::default();
        // With the comma that the last member does not have.
        let mut bytes_left = MAX_BYTES + 1;
        let members =
            lines.into_iter().flat_map(|line| line.split(',')).take(MAX_MEMBERS).take_while(|member| {
                let fits = member.len() < bytes_left;
                bytes_left = bytes_left.saturating_sub(member.len() + 1);
                fits
            });
        for member in members {
            // Properties follow a semicolon; none is defined for the keys that are known here.
            let (pair, properties) = member.split_at(member.find(';').unwrap_or(member.len()));
            if let Some((key, value)) = pair.split_once('=')
                && !value.trim_matches(OWS).contains(char::is_control)
            {
                let (key, value) = (key.trim_matches(OWS), decode(value.trim_matches(OWS)));
                if !baggage.set(key, value.clone()) {
                    baggage.set_other(key, value, properties.trim_matches(OWS));
                }
            }
        }
        baggage
    }

    /// Adds the cluster.
    pub fn with_cluster(self, cluster: impl Into<Arc<str>>) -> Self {
        Self { cluster: non_empty(cluster), ..self }
    }

    /// Adds the namespace.
    pub fn with_namespace(self, namespace: impl Into<Arc<str>>) -> Self {
        Self { namespace: non_empty(namespace), ..self }
    }

    /// Adds the workload's name and kind.
    pub fn with_workload(self, kind: WorkloadKind, name: impl Into<Arc<str>>) -> Self {
        Self { workload: non_empty(name).map(|name| (kind, name)), ..self }
    }

    /// Adds the service's canonical name.
    pub fn with_service_name(self, name: impl Into<Arc<str>>) -> Self {
        Self { service_name: non_empty(name), ..self }
    }

    /// Adds the service's canonical revision.
    pub fn with_service_version(self, version: impl Into<Arc<str>>) -> Self {
        Self { service_version: non_empty(version), ..self }
    }

    /// Adds the region.
    pub fn with_region(self, region: impl Into<Arc<str>>) -> Self {
        Self { region: non_empty(region), ..self }
    }

    /// Adds the zone within the region.
    pub fn with_zone(self, zone: impl Into<Arc<str>>) -> Self {
        Self { zone: non_empty(zone), ..self }
    }

    /// Adds a member with any other key, or replaces the one with that key; a key that has a setter of its own sets that.
    ///
    /// A key that is not a token (RFC 9110 §5.6.2), an empty value, and more than 64 members are left out.
    pub fn with_member(mut self, key: &str, value: impl Into<Arc<str>>) -> Self {
        let value = non_empty(value);
        if !self.set(key, value.clone()) {
            self.set_other(key, value, "");
        }
        self
    }

    /// The value of a member with any other key than the known ones.
    pub fn member(&self, key: &str) -> Option<&str> {
        self.others.iter().find(|other| *other.key == *key).map(|other| &*other.value)
    }

    /// The members with other keys than the known ones, in the order they came.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.others.iter().map(|other| (&*other.key, &*other.value))
    }

    /// The cluster.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// The namespace.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The workload's name.
    pub fn workload_name(&self) -> Option<&str> {
        self.workload.as_ref().map(|(_, name)| &**name)
    }

    /// The workload's kind.
    pub fn workload_kind(&self) -> Option<WorkloadKind> {
        self.workload.as_ref().map(|(kind, _)| *kind)
    }

    /// The service's canonical name.
    pub fn service_name(&self) -> Option<&str> {
        self.service_name.as_deref()
    }

    /// The service's canonical revision.
    pub fn service_version(&self) -> Option<&str> {
        self.service_version.as_deref()
    }

    /// The region.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The zone within the region.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// The value of the header; empty if nothing is said.
    pub fn to_header_value(&self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).expect("encoded members are visible ASCII")
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sets the field of that key; whether there is one.
    fn set(&mut self, key: &str, value: Option<Arc<str>>) -> bool {
        let named = |kind| value.clone().map(|name| (kind, name));
        match key {
            CLUSTER => self.cluster = value,
            NAMESPACE => self.namespace = value,
            CRON_JOB => self.workload = named(WorkloadKind::CronJob),
            DEPLOYMENT => self.workload = named(WorkloadKind::Deployment),
            JOB => self.workload = named(WorkloadKind::Job),
            POD => self.workload = named(WorkloadKind::Pod),
            SERVICE_NAME => self.service_name = value,
            SERVICE_VERSION => self.service_version = value,
            REGION => self.region = value,
            ZONE => self.zone = value,
            _ => return false,
        }
        true
    }

    fn set_other(&mut self, key: &str, value: Option<Arc<str>>, properties: &str) {
        if key.is_empty() || !key.bytes().all(is_token) || !properties.bytes().all(is_printable) {
            return;
        }
        self.others.retain(|other| *other.key != *key);
        if let Some(value) = value
            && self.others.len() < MAX_MEMBERS
        {
            self.others.push(Member { key: key.into(), value, properties: properties.into() });
        }
    }
}

impl fmt::Display for Baggage {
    /// Writes the header's value, in the order in which the reference writes it, then the members that it does not know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workload_key = match self.workload_kind() {
            Some(WorkloadKind::CronJob) => CRON_JOB,
            Some(WorkloadKind::Job) => JOB,
            Some(WorkloadKind::Pod) => POD,
            Some(WorkloadKind::Deployment) | None => DEPLOYMENT,
        };
        let members = [
            (CLUSTER, self.cluster()),
            (NAMESPACE, self.namespace()),
            (workload_key, self.workload_name()),
            (SERVICE_NAME, self.service_name()),
            (SERVICE_VERSION, self.service_version()),
            (REGION, self.region()),
            (ZONE, self.zone()),
        ];
        let mut separator = "";
        for (key, value) in members {
            let Some(value) = value else { continue };
            write!(f, "{separator}{key}={}", Encoded(value))?;
            separator = ",";
        }
        for Member { key, value, properties } in &self.others {
            write!(f, "{separator}{key}={}{properties}", Encoded(value))?;
            separator = ",";
        }
        Ok(())
    }
}

/// A value with everything escaped that may not stand in one (W3C Baggage §3.3.1.3).
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.bytes().position(|byte| !is_plain(byte)) {
            let (plain, special) = rest.split_at(at);
            f.write_str(plain)?;
            let end = special.bytes().position(is_plain).unwrap_or(special.len());
            let (special, tail) = special.split_at(end);
            special.bytes().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
            rest = tail;
        }
        f.write_str(rest)
    }
}

/// What may stand in a header's value.
fn is_printable(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte == b' ' || byte == b'\t'
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%' | b',' | b';' | b'\\')
}

/// Undoes percent-encoding. What is not UTF-8 becomes U+FFFD (W3C Baggage §3.3.1.3), and so does a control character, which
/// has no business in a name.
fn decode(value: &str) -> Option<Arc<str>> {
    if !value.contains('%') {
        return non_empty(value);
    }
    let decoded = percent_decode(value);
    if decoded.contains(char::is_control) {
        return non_empty(decoded.replace(char::is_control, "\u{fffd}"));
    }
    non_empty(decoded)
}

fn percent_decode(value: &str) -> String {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = match (byte, tail) {
            (b'%', [high, low, tail @ ..]) => {
                hex_digit(*high).zip(hex_digit(*low)).map(|digits| (digits, tail))
            }
            _ => None,
        };
        match escaped {
            Some(((high, low), tail)) => {
                decoded.push(high << 4 | low);
                rest = tail;
            }
            None => {
                decoded.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn non_empty(text: impl Into<Arc<str>>) -> Option<Arc<str>> {
    Some(text.into()).filter(|text| !text.is_empty())
}

const OWS: [char; 2] = [' ', '\t'];
/// W3C Baggage §3.3.2.
const MAX_BYTES: usize = 8192;
/// W3C Baggage §3.3.2.
const MAX_MEMBERS: usize = 64;

const CLUSTER: &str = "k8s.cluster.name";
const NAMESPACE: &str = "k8s.namespace.name";
const CRON_JOB: &str = "k8s.cronjob.name";
const DEPLOYMENT: &str = "k8s.deployment.name";
const JOB: &str = "k8s.job.name";
const POD: &str = "k8s.pod.name";
const SERVICE_NAME: &str = "service.name";
const SERVICE_VERSION: &str = "service.version";
const REGION: &str = "cloud.region";
const ZONE: &str = "cloud.availability_zone";

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Baggage {
        Baggage::new()
            .with_cluster("Kubernetes")
            .with_namespace("shop")
            .with_workload(WorkloadKind::Deployment, "cart")
            .with_service_name("cart")
            .with_service_version("v2")
            .with_region("eu-1")
            .with_zone("eu-1b")
    }

    // hbone#29
    #[test]
    fn all_fields_are_written_in_order_and_read_back() {
        let text = "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart,\
                    service.version=v2,cloud.region=eu-1,cloud.availability_zone=eu-1b";
        assert_eq!(full().to_string(), text);
        assert_eq!(full().to_header_value(), text);
        assert_eq!(Baggage::from_lines([text]), full());
    }

    // hbone#29
    #[test]
    fn empty_fields_are_omitted() {
        assert_eq!(Baggage::new().with_namespace("").with_zone("z").to_string(), "cloud.availability_zone=z");
        assert!(Baggage::from_lines(["k8s.namespace.name="]).is_empty());
    }

    #[test]
    fn every_kind_of_workload_round_trips() {
        use WorkloadKind::*;
        for (kind, key) in [(CronJob, "cronjob"), (Deployment, "deployment"), (Job, "job"), (Pod, "pod")] {
            let baggage = Baggage::new().with_workload(kind, "w");
            assert_eq!(baggage.to_string(), format!("k8s.{key}.name=w"));
            assert_eq!(Baggage::from_lines([&*baggage.to_string()]), baggage);
        }
    }

    // hbone#33
    #[test]
    fn white_space_properties_and_several_lines_are_read() {
        let lines =
            [" k8s.namespace.name = shop ;ttl=1; secret ,\tservice.name=cart", "unknown=1,cloud.region=a=b"];
        let baggage = Baggage::from_lines(lines);
        assert_eq!(baggage.namespace(), Some("shop"));
        assert_eq!(baggage.service_name(), Some("cart"));
        assert_eq!(baggage.region(), Some("a=b"));
        assert_eq!(baggage.member("unknown"), Some("1"));
    }

    #[test]
    fn members_with_unknown_keys_are_kept_with_their_properties() {
        let text =
            "service.name=cart,tenant=a%2Cb;ttl=1; secret,k8s.namespace.name=shop,userId=7,tenant=last;p";
        let baggage = Baggage::from_lines([text]);
        assert_eq!(baggage.members().collect::<Vec<_>>(), [("userId", "7"), ("tenant", "last")]);
        assert_eq!(baggage.to_string(), "k8s.namespace.name=shop,service.name=cart,userId=7,tenant=last;p");
        assert_eq!(Baggage::from_lines([&*baggage.to_string()]), baggage);
    }

    #[test]
    fn member_outside_the_grammar_is_left_out() {
        let baggage = Baggage::new()
            .with_member("a b", "1")
            .with_member("", "1")
            .with_member("c", "")
            .with_member("d", "x y")
            .with_member("service.name", "cart");
        assert_eq!(baggage.to_string(), "service.name=cart,d=x%20y");
        assert!(Baggage::from_lines(["a b=1,=2,d=\u{7f},service.name=\u{7f}"]).is_empty());
    }

    #[test]
    fn last_of_equal_members_counts() {
        let baggage =
            Baggage::from_lines(["k8s.pod.name=a", "k8s.job.name=b,cloud.region=x", "cloud.region="]);
        assert_eq!(baggage.workload_name(), Some("b"));
        assert_eq!(baggage.region(), None);
    }

    #[test]
    fn values_are_percent_decoded() {
        let read = |value: &str| Baggage::from_lines([&*format!("service.name={value}")]);
        let table = [
            ("a%2Cb%20%C3%A9", "a,b é"),
            ("%", "%"),
            ("%2", "%2"),
            ("%zz%41", "%zzA"),
            ("%ff", "\u{fffd}"),
            ("%C3x%A9", "\u{fffd}x\u{fffd}"),
            ("a%0Ab%7F%C2%85", "a\u{fffd}b\u{fffd}\u{fffd}"),
        ];
        for (value, expected) in table {
            let baggage = read(value);
            assert_eq!(baggage.service_name(), Some(expected), "{value}");
            assert_eq!(Baggage::from_lines([&*baggage.to_string()]), baggage, "{value}");
        }
    }

    #[test]
    fn values_outside_the_grammar_are_encoded() {
        let baggage = Baggage::new().with_service_name("a,b;c %é\n").with_zone("plain");
        assert_eq!(
            baggage.to_string(),
            "service.name=a%2Cb%3Bc%20%25%C3%A9%0A,cloud.availability_zone=plain"
        );
    }

    #[test]
    fn excess_is_not_looked_at() {
        let members = format!("{}cloud.region=late", "k=v,".repeat(MAX_MEMBERS));
        assert_eq!(Baggage::from_lines([&*members]), Baggage::new().with_member("k", "v"));
        let bytes = format!("k={},cloud.region=late", "v".repeat(MAX_BYTES));
        assert!(Baggage::from_lines([&*bytes]).is_empty());
        for (excess, count) in [(0, 2), (1, 1)] {
            let value = "v".repeat((MAX_BYTES - "k=,l=".len()) / 2);
            let longer = format!("k={value},l={value}{}", "v".repeat(1 + excess));
            assert_eq!(longer.len(), MAX_BYTES + excess);
            assert_eq!(Baggage::from_lines([&*longer]).members().count(), count, "{excess}");
        }
        let added =
            (0..100).fold(Baggage::new(), |baggage, index| baggage.with_member(&format!("k{index}"), "v"));
        assert_eq!(added.members().count(), MAX_MEMBERS);
    }

    // hbone#32
    #[test]
    fn line_that_is_not_ascii_is_skipped_alone() {
        let mut headers = HeaderMap::new();
        assert_eq!(Baggage::from_headers(&headers), None);
        headers.append(header::BAGGAGE, HeaderValue::from_bytes(b"cloud.region=\xff").unwrap());
        headers.append(header::BAGGAGE, HeaderValue::from_static("cloud.availability_zone=z"));
        assert_eq!(Baggage::from_headers(&headers), Some(Baggage::new().with_zone("z")));
    }
}

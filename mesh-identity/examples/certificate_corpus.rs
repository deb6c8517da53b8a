//! Writes the certificates of `tests/certificates/`, with new keys and the same contents, and their leaves as seeds for
//! the fuzzer: `cargo run -p mesh-identity --example certificate_corpus --features testing`.
//!
//! Each file is a chain as a peer sends it, leaf first, in DER; `manifest` says what comes of it, and
//! `tests/certificates.rs` asks whether it does.

#![expect(clippy::unwrap_used, reason = "a tool for people who can read a backtrace")]

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_identity::testing::{
    Authority, KeyAlgorithm, Leaf, LeafBuilder,
    rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
        ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, SanType,
        string::Ia5String,
    },
};
use rustls::pki_types::CertificateDer;

fn main() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/leaf_certificate");
    let mut corpus = Corpus { directory, seeds, manifest: HEADER.to_owned() };
    fs::create_dir_all(&corpus.directory).unwrap();
    let world = World::new();
    corpus.write("root", &[world.ours.root()]);
    corpus.write("root-federated", &[world.federated.root()]);
    accepted(&mut corpus, &world);
    names(&mut corpus, &world);
    leaf_rules(&mut corpus, &world);
    validity(&mut corpus, &world);
    paths(&mut corpus, &world);
    garbage(&mut corpus, &world);
    fs::write(corpus.directory.join("manifest"), corpus.manifest).unwrap();
}

/// The authorities there are: the bundles hold the first two.
struct World {
    ours: Authority,
    federated: Authority,
    stranger: Authority,
    /// Another key under the name of ours.
    namesake: Authority,
}

impl World {
    fn new() -> Self {
        Self {
            ours: Authority::with_name("Example root", "example.org"),
            federated: Authority::with_name("Federated root", "federated.example"),
            stranger: Authority::with_name("Stranger", "example.org"),
            namesake: Authority::with_name("Example root", "example.org"),
        }
    }

    fn leaf(&self) -> LeafBuilder<'_> {
        leaf(&self.ours)
    }
}

fn leaf(authority: &Authority) -> LeafBuilder<'_> {
    authority.leaf(CART).valid(at(-86_400), at(86_400))
}

fn accepted(corpus: &mut Corpus, world: &World) {
    for (name, algorithm) in [
        ("p256", KeyAlgorithm::P256),
        ("p384", KeyAlgorithm::P384),
        ("ed25519", KeyAlgorithm::Ed25519),
        ("rsa", KeyAlgorithm::Rsa),
    ] {
        corpus.both(name, "accepted", &world.leaf().algorithm(algorithm).issue());
    }
    corpus.both("opaque-path", "accepted", &world.leaf().uris(["spiffe://example.org/batch/Job-7"]).issue());
    let names = world.leaf().dns_name("cart.example.org").dns_name("*.example.org");
    corpus.both("dns-beside", "accepted", &names.issue());
    let other = world.leaf().customize(|params| {
        params.subject_alt_names.push(SanType::IpAddress([192, 0, 2, 1].into()));
        params.subject_alt_names.push(SanType::Rfc822Name(ia5("cart@example.org")));
    });
    corpus.both("address-and-mail-beside", "accepted", &other.issue());
    let many =
        (0..1500).fold(world.leaf(), |leaf, number| leaf.dns_name(&format!("cart-{number}.example.org")));
    corpus.both("many-names-beside", "accepted", &many.issue());
    let larger = world.leaf().customize(|params| {
        let filling = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 2], vec![4; 66_000]);
        params.custom_extensions.push(filling);
    });
    corpus.both("larger-than-64-kib", "chain: malformed, leaf", &larger.issue());
    corpus.both("without-purpose", "accepted", &world.leaf().without_purpose().issue());
    let uri = "spiffe://federated.example/ns/shop/sa/cart";
    corpus.both("federated", "accepted", &leaf(&world.federated).uris([uri]).issue());
    let renamed = "spiffe://alias.example/ns/shop/sa/cart";
    corpus.both("alias", "accepted", &world.leaf().uris([renamed]).issue());
}

fn names(corpus: &mut Corpus, world: &World) {
    let longest = format!("spiffe://example.org/{}", "a".repeat(2048 - 21));
    corpus.both("id-of-2048-bytes", "accepted", &world.leaf().uris([longest.as_str()]).issue());
    let longer = longest + "a";
    let long_domain = format!("spiffe://{}/a", "a".repeat(256));
    for (name, expected, uris) in [
        ("two-uris", "leaf: several uris", &[CART, STOCK][..]),
        ("two-trust-domains", "leaf: several uris", &["spiffe://federated.example/ns/shop/sa/cart", CART]),
        ("the-same-uri-twice", "leaf: several uris", &[CART, CART]),
        ("web-address-beside", "leaf: several uris", &[CART, "https://example.org"]),
        ("web-address", "leaf: id", &["https://example.org/ns/shop/sa/cart"]),
        ("embedded-nul", "leaf: id", &["spiffe://example.org/ns/shop/sa/cart\0.evil.example"]),
        ("nul-in-trust-domain", "leaf: id", &["spiffe://example.org\0.evil.example/ns/shop/sa/cart"]),
        ("percent", "leaf: id", &["spiffe://example.org/ns/shop/sa/c%61rt"]),
        ("upper-case-scheme", "leaf: id", &["SPIFFE://example.org/ns/shop/sa/cart"]),
        ("upper-case-trust-domain", "leaf: id", &["spiffe://Example.org/ns/shop/sa/cart"]),
        ("port", "leaf: id", &["spiffe://example.org:8443/ns/shop/sa/cart"]),
        ("user", "leaf: id", &["spiffe://cart@example.org/ns/shop/sa/cart"]),
        ("query", "leaf: id", &["spiffe://example.org/ns/shop/sa/cart?x"]),
        ("fragment", "leaf: id", &["spiffe://example.org/ns/shop/sa/cart#x"]),
        ("trailing-slash", "leaf: id", &["spiffe://example.org/ns/shop/sa/cart/"]),
        ("dot-segment", "leaf: id", &["spiffe://example.org/ns/../sa/cart"]),
        ("empty-segment", "leaf: id", &["spiffe://example.org/ns//sa/cart"]),
        ("empty-uri", "leaf: id", &[""]),
        ("line-break", "leaf: id", &["spiffe://example.org/ns/shop/sa/cart\nlevel=info"]),
        ("id-of-2049-bytes", "leaf: id", &[longer.as_str()]),
        ("trust-domain-of-256-bytes", "leaf: id", &[long_domain.as_str()]),
        ("trust-domain-alone", "leaf: no path", &["spiffe://example.org"]),
        ("no-uri", "leaf: no uri", &[]),
        ("unknown-trust-domain", "unknown trust domain", &["spiffe://other.example/ns/shop/sa/cart"]),
        ("trust-domain-with-suffix", "unknown trust domain", &["spiffe://example.org.evil.example/a"]),
    ] {
        corpus.both(name, expected, &world.leaf().uris(uris.iter().copied()).issue());
    }
    let dns = world.leaf().uris([]).dns_name("cart.example.org");
    corpus.both("dns-alone", "leaf: no uri", &dns.issue());
    let in_subject = world.leaf().uris([]).customize(|params| {
        params.distinguished_name.push(DnType::CommonName, CART);
    });
    corpus.both("id-in-the-subject", "leaf: no uri", &in_subject.issue());
    let twice = world.leaf().customize(|params| params.custom_extensions.push(alternative_names(STOCK)));
    corpus.both("two-lists-of-names", "leaf: malformed", &twice.issue());
    let unknown = "spiffe://federated.example/ns/shop/sa/cart";
    let fault = "chain: unknown issuer, leaf";
    corpus.both("root-of-another-trust-domain", fault, &world.leaf().uris([unknown]).issue());
}

fn leaf_rules(corpus: &mut Corpus, world: &World) {
    let leaf = || world.leaf();
    for (name, expected, leaf) in [
        ("authority", "leaf: certificate authority", leaf().certificate_authority()),
        ("may-sign-certificates", "leaf: signing usage", leaf().may_sign_certificates()),
        ("may-sign-revocation-lists", "leaf: signing usage", leaf().may_sign_revocation_lists()),
        ("no-digital-signature", "leaf: no digital signature", leaf().without_digital_signature()),
        ("no-key-usage", "leaf: no digital signature", leaf().without_key_usage()),
    ] {
        corpus.both(name, expected, &leaf.issue());
    }
    let client = leaf().client_only().issue();
    corpus.one("client-only", "client", "accepted", &client);
    corpus.one("client-only", "server", "purpose", &client);
    let server = leaf().server_only().issue();
    corpus.one("server-only", "client", "purpose", &server);
    corpus.one("server-only", "server", "accepted", &server);
    for (name, purpose) in [
        ("any-purpose", ExtendedKeyUsagePurpose::Any),
        ("code-signing", ExtendedKeyUsagePurpose::CodeSigning),
    ] {
        let leaf = leaf().customize(|params| params.extended_key_usages = vec![purpose]);
        corpus.both(name, "purpose", &leaf.issue());
    }
    let critical = leaf().customize(|params| params.custom_extensions.push(critical_extension()));
    corpus.both("unknown-critical-extension", "chain: critical extension, leaf", &critical.issue());
}

fn validity(corpus: &mut Corpus, world: &World) {
    for (name, expected, from, to) in [
        ("first-second", "accepted", 0, 100),
        ("last-second", "accepted", -100, 0),
        ("not-yet-valid", "not yet valid", 1, 100),
        ("expired", "expired", -100, -1),
        ("expired-long-ago", "expired", -1_000_000_000, -900_000_000),
        ("valid-never", "not yet valid", 100, -100),
    ] {
        corpus.both(name, expected, &world.leaf().valid(at(from), at(to)).issue());
    }
}

fn paths(corpus: &mut Corpus, world: &World) {
    let one = world.ours.intermediate();
    let (two, three) = (one.intermediate(), one.intermediate().intermediate());
    for (name, issuer) in
        [("one-intermediate", &one), ("two-intermediates", &two), ("three-intermediates", &three)]
    {
        corpus.both(name, "accepted", &leaf(issuer).issue());
    }
    let chain = leaf(&three).issue().chain();
    let [leaf_of_three, c, b, a] = chain.as_slice() else { unreachable!("three intermediates") };
    let pick = |certificates: &[&CertificateDer<'static>]| -> Vec<_> {
        certificates.iter().map(|certificate| (*certificate).clone()).collect()
    };
    corpus.chain("intermediates-out-of-order", "accepted", &pick(&[leaf_of_three, a, c, b]));
    corpus.chain("with-root", "accepted", &pick(&[leaf_of_three, c, b, a, &world.ours.root()]));
    let stranger = world.stranger.root();
    corpus.chain(
        "unrelated-beside",
        "accepted",
        &pick(&[leaf_of_three, &stranger, c, b, a, &client_of(world)]),
    );
    corpus.chain("intermediate-twice", "accepted", &pick(&[leaf_of_three, c, c, b, b, a, a]));
    for (name, expected, chain) in [
        ("all-intermediates-missing", "chain: unknown issuer, leaf", &[leaf_of_three][..]),
        ("first-intermediate-missing", "chain: unknown issuer, leaf", &[leaf_of_three, b, a]),
        ("middle-intermediate-missing", "chain: unknown issuer, intermediate 0", &[leaf_of_three, c, a]),
        ("last-intermediate-missing", "chain: unknown issuer, intermediate 1", &[leaf_of_three, c, b]),
        ("root-first", "leaf: certificate authority", &[&world.ours.root()]),
    ] {
        corpus.chain(name, expected, &pick(chain));
    }
    let sixteen: Vec<_> = chain.iter().cycle().take(16).cloned().collect();
    corpus.chain("sixteen-certificates", "accepted", &sixteen);
    corpus.chain("seventeen-certificates", "too many certificates", &[sixteen, vec![stranger]].concat());

    corpus.both("root-unknown", "chain: unknown issuer, leaf", &leaf(&world.stranger).issue());
    corpus.both("root-of-the-same-name", "chain: signature, leaf", &leaf(&world.namesake).issue());
    let below_namesake = world.namesake.intermediate();
    let fault = "chain: signature, intermediate 0";
    corpus.both("intermediate-of-the-namesake", fault, &leaf(&below_namesake).issue());

    let issuer = |change: fn(&mut CertificateParams)| world.ours.intermediate_with(change);
    let expired = issuer(|params| {
        params.not_before = at(-200).into();
        params.not_after = at(-1).into();
    });
    corpus.both("expired-intermediate", "chain: expired, intermediate 0", &leaf(&expired).issue());
    let later = issuer(|params| params.not_before = at(1).into());
    corpus.both("later-intermediate", "chain: not yet valid, intermediate 0", &leaf(&later).issue());
    let mere_leaf = issuer(|params| params.is_ca = IsCa::ExplicitNoCa);
    corpus.both(
        "intermediate-is-no-authority",
        "chain: not authority, intermediate 0",
        &leaf(&mere_leaf).issue(),
    );
    for (name, usages) in [
        ("intermediate-may-not-sign-certificates", vec![KeyUsagePurpose::DigitalSignature]),
        ("intermediate-for-revocation-lists", vec![KeyUsagePurpose::CrlSign]),
    ] {
        let limited = world.ours.renew_with(&one, |params| params.key_usages = usages);
        corpus.both(name, "chain: not for signing, intermediate 0", &leaf(&limited).issue());
    }
    let silent = world.ours.renew_with(&one, |params| params.key_usages.clear());
    corpus.both("intermediate-without-key-usage", "accepted", &leaf(&silent).issue());
    let critical = issuer(|params| params.custom_extensions.push(critical_extension()));
    corpus.both(
        "unknown-critical-extension-above",
        "chain: critical extension, intermediate 0",
        &leaf(&critical).issue(),
    );
    let vouched = world.ours.renew_with(&world.namesake, |params| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Example root");
    });
    corpus.both("new-root-vouched-for-by-the-old", "accepted", &leaf(&vouched).issue());
    let last = issuer(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    corpus.both("path-length-kept", "accepted", &leaf(&last).issue());
    corpus.both(
        "path-length-exceeded",
        "chain: path length, intermediate 1",
        &leaf(&last.intermediate()).issue(),
    );

    let uris = issuer(|params| params.custom_extensions.push(uri_constraint(0, "example.org")));
    corpus.both(
        "uri-constraint-permitting",
        "chain: uri name constraint, intermediate 0",
        &leaf(&uris).issue(),
    );
    let uris = issuer(|params| params.custom_extensions.push(uri_constraint(1, "other.example")));
    corpus.both(
        "uri-constraint-excluding",
        "chain: uri name constraint, intermediate 0",
        &leaf(&uris).issue(),
    );
    let dns = issuer(|params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example.org".into())],
            excluded_subtrees: Vec::new(),
        });
    });
    corpus.both("dns-constraint-kept", "accepted", &leaf(&dns).dns_name("cart.example.org").issue());
    let violated = leaf(&dns).dns_name("cart.example.com").issue();
    corpus.both("dns-constraint-violated", "chain: name constraint, intermediate 0", &violated);
}

fn garbage(corpus: &mut Corpus, world: &World) {
    let good = world.leaf().issue().chain().remove(0);
    let cut = |length: usize| CertificateDer::from(good.get(..length).unwrap().to_vec());
    for (name, certificate) in [
        ("empty", CertificateDer::from(Vec::new())),
        ("noise", CertificateDer::from((0u8..=255).rev().collect::<Vec<_>>())),
        ("text", CertificateDer::from(b"-----BEGIN CERTIFICATE-----".to_vec())),
        ("cut", cut(good.len() - 1)),
        ("half", cut(good.len() / 2)),
        ("longer", CertificateDer::from([good.as_ref(), &[0]].concat())),
        ("endless-length", CertificateDer::from(vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30])),
        ("deep", CertificateDer::from([0x30, 0x80].repeat(4000))),
    ] {
        corpus.raw(name, "leaf: malformed", &certificate);
    }
    let issuer = world.ours.intermediate();
    let chain = [leaf(&issuer).issue().chain().remove(0), CertificateDer::from(vec![0x30, 0x00])];
    corpus.chain("malformed-intermediate", "chain: malformed, intermediate 0", &chain);
}

fn client_of(world: &World) -> CertificateDer<'static> {
    leaf(&world.stranger).issue().chain().remove(0)
}

struct Corpus {
    directory: PathBuf,
    seeds: PathBuf,
    manifest: String,
}

impl Corpus {
    /// The same comes of it on both sides.
    fn both(&mut self, name: &str, expected: &str, leaf: &Leaf) {
        self.chain(name, expected, &leaf.chain());
    }

    fn one(&mut self, name: &str, role: &str, expected: &str, leaf: &Leaf) {
        self.write(name, &leaf.chain());
        writeln!(self.manifest, "{name} | {role} | {expected}").unwrap();
    }

    fn chain(&mut self, name: &str, expected: &str, chain: &[CertificateDer<'_>]) {
        self.write(name, chain);
        writeln!(self.manifest, "{name} | both | {expected}").unwrap();
    }

    /// Bytes that are one certificate, or not even that.
    fn raw(&mut self, name: &str, expected: &str, certificate: &CertificateDer<'_>) {
        fs::write(self.directory.join(format!("{name}.bin")), certificate).unwrap();
        writeln!(self.manifest, "{name} | both | {expected}").unwrap();
    }

    fn write(&self, name: &str, chain: &[CertificateDer<'_>]) {
        let bytes: Vec<u8> = chain.iter().flat_map(|certificate| certificate.iter().copied()).collect();
        fs::write(self.directory.join(format!("{name}.der")), bytes).unwrap();
        let leaf = chain.first().unwrap();
        if leaf.len() < 4096 && SEEDS.contains(&name) {
            fs::write(self.seeds.join(name), leaf).unwrap();
        }
    }
}

fn ia5(text: &str) -> Ia5String {
    text.try_into().unwrap()
}

fn critical_extension() -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    extension.set_criticality(true);
    extension
}

/// A second extension of alternative names, beside the first.
fn alternative_names(uri: &str) -> CustomExtension {
    let name = tagged(0x86, uri.as_bytes());
    CustomExtension::from_oid_content(&[2, 5, 29, 17], tagged(0x30, &name))
}

/// Name constraints that webpki does not evaluate and rcgen does not write (RFC 5280 §4.2.1.10); `kind` is 0 for permitted
/// and 1 for excluded.
fn uri_constraint(kind: u8, host: &str) -> CustomExtension {
    let subtree = tagged(0x30, &tagged(0x86, host.as_bytes()));
    let mut extension =
        CustomExtension::from_oid_content(&[2, 5, 29, 30], tagged(0x30, &tagged(0xa0 + kind, &subtree)));
    extension.set_criticality(true);
    extension
}

/// DER of fewer than 128 bytes.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

fn at(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW.checked_add_signed(seconds).unwrap())
}

/// When the certificates are verified.
const NOW: u64 = 1_800_000_000;

const CART: &str = "spiffe://example.org/ns/shop/sa/cart";
const STOCK: &str = "spiffe://example.org/ns/shop/sa/stock";

/// Leaves that differ in what a parser sees.
const SEEDS: [&str; 17] = [
    "address-and-mail-beside",
    "any-purpose",
    "authority",
    "dns-beside",
    "ed25519",
    "embedded-nul",
    "empty-uri",
    "id-in-the-subject",
    "may-sign-certificates",
    "no-key-usage",
    "p384",
    "rsa",
    "trust-domain-alone",
    "two-lists-of-names",
    "unknown-critical-extension",
    "unknown-trust-domain",
    "without-purpose",
];

const HEADER: &str = "\
# Written by examples/certificate_corpus.rs. A chain, the role its sender plays, and what comes of it at 1800000000 seconds
# since the epoch, for a verifier that expects example.org, federated.example and alias.example (an alias of example.org)
# and has the bundles root.der and root-federated.der of the first two. A chain error names the certificate it blames.
";

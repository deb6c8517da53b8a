//! The report as a page for a terminal.

use std::collections::BTreeSet;

use super::{
    paint::Paint,
    report::{Figures, Mode, Report, WireRow},
    tour::Side,
};

/// Columns of the page.
const WIDTH: usize = 96;
/// Column at which the text of a section begins.
const MARGIN: usize = 4;

/// Renders a report.
pub(super) fn render(report: &Report, paint: Paint) -> String {
    let mut page = Page { paint, text: String::new(), sections: 0 };
    page.head(report);
    page.requests(report);
    page.wire(report);
    page.identities(report);
    page.sources(report);
    page.decisions(report);
    page.access_log(report);
    page.metrics(report);
    page.cost(report);
    page.checks(report);
    page.text
}

struct Page {
    paint: Paint,
    text: String,
    sections: usize,
}

impl Page {
    fn head(&mut self, report: &Report) {
        let title = self.paint.bold("A mesh between two pods");
        self.line(0, &format!("\n{title}"));
        self.line(0, &self.paint.dim("─".repeat(WIDTH)));
        match &report.mode {
            Mode::Namespaces { privilege, capture } => {
                self.wrapped(2, &format!("Two hosts made of network namespaces, thanks to {privilege}; {capture} redirects their traffic."));
            }
            Mode::OneProcess { because, remedy, not_shown } => {
                let notice = format!("ONE PROCESS on loopback addresses, because: {because}");
                for line in wrap(&notice, WIDTH - 2) {
                    self.line(2, &self.paint.bad(line));
                }
                if let Some(remedy) = remedy {
                    self.wrapped(2, &format!("To change that: {remedy}."));
                }
                self.wrapped(2, &format!("Not shown this way: {not_shown}."));
            }
        }
        let [client, server] = report.pods.as_slice() else { return };
        let place = |index: usize| {
            let pod = if index == 0 { client } else { server };
            let addresses: Vec<_> = pod.addresses.iter().map(ToString::to_string).collect();
            (format!("{}/{}", pod.namespace, pod.name), addresses.join("  "))
        };
        let ((client, client_addresses), (server, server_addresses)) = (place(0), place(1));
        self.line(0, "");
        self.line(2, &format!("{}{}", self.paint.bold(format!("{client:<60}")), self.paint.bold(server)));
        self.line(2, &self.paint.dim(format!("{client_addresses:<60}{server_addresses}")));
        for row in [
            "┌─────────────┐  ┌─────────┐                                ┌─────────┐  ┌─────────────┐",
            "│ application ├──┤ ztunnel ╞═══════ HBONE: mutual TLS ══════╡ ztunnel ├──┤ application │",
            "└─────────────┘  └─────────┘                                └─────────┘  └─────────────┘",
        ] {
            self.line(2, &self.paint.accent(row));
        }
    }

    fn requests(&mut self, report: &Report) {
        self.section("What the client dialled");
        for request in &report.requests {
            let service = request.service.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            let verdict =
                if request.answered { self.paint.good("answered") } else { self.paint.bad("no answer") };
            self.line(MARGIN, &format!("{}{service}: {verdict}", self.paint.bold(request.dialled)));
            let tunnel = request.tunnel.as_deref().unwrap_or("nowhere");
            let application = request.application.as_deref().unwrap_or("nowhere");
            self.line(MARGIN + 2, &format!("tunnel to {tunnel}, which led to {application}"));
        }
    }

    fn wire(&mut self, report: &Report) {
        self.section("What could be read on the way, looking for a secret that the client sent");
        let [bare, watched] = &report.wire;
        for (run, row) in [("without the mesh", bare), ("with the mesh", watched)] {
            let WireRow { marker_seen, ports, bytes, tls_hellos, tls_protected_records, only_tls } = row;
            let secret = format!("{:<16}", if *marker_seen { "secret READABLE" } else { "secret not found" });
            let secret = if *marker_seen { self.paint.bad(secret) } else { self.paint.good(secret) };
            let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
            let kind = if *only_tls {
                format!("TLS: {tls_hellos} hellos, {tls_protected_records} records")
            } else {
                "plain text".to_owned()
            };
            let ports = ports.join(", ");
            self.line(MARGIN, &format!("{run:<17} {secret} port {ports:<5} {bytes:>6} bytes, {kind}"));
        }
    }

    fn identities(&mut self, report: &Report) {
        self.section("Who they proved to be, each to the proxy of the other");
        for pod in &report.pods {
            let proved = pod.proved_identity.as_deref().unwrap_or("nobody");
            let good = pod.proved_identity.as_ref() == Some(&pod.expected_identity);
            let proved = if good { self.paint.good(proved) } else { self.paint.bad(proved) };
            self.line(MARGIN, &format!("{:<18}{proved}", pod.name));
        }
    }

    fn sources(&mut self, report: &Report) {
        if matches!(report.mode, Mode::OneProcess { .. }) {
            return;
        }
        self.section("Whom the application saw, behind two proxies");
        for request in &report.requests {
            let seen = request.source_seen.map_or_else(|| "nobody".to_owned(), |address| address.to_string());
            let verdict = if request.is_source_preserved() {
                self.paint.good("the address of the client itself")
            } else {
                self.paint.bad(format!("but the client is {}", request.client))
            };
            self.line(MARGIN, &format!("{seen:<18}{verdict}"));
        }
    }

    fn decisions(&mut self, report: &Report) {
        self.section("What the policies said");
        for decision in &report.decisions {
            let verdict = if decision.allowed { self.paint.good("ALLOW") } else { self.paint.bad("DENY ") };
            let (reason, proof) =
                decision.explanation.split_first().map_or(("", [].as_slice()), |(reason, proof)| {
                    (reason.split_once(": ").map_or(reason.as_str(), |(_, reason)| reason), proof)
                });
            self.line(MARGIN, &format!("{verdict}  {}  {reason}", self.paint.bold(decision.destination)));
            for line in proof {
                self.hanging(MARGIN + 7, line);
            }
            if let Some(logged) = &decision.logged {
                self.hanging(MARGIN + 7, &format!("the proxy logged: {logged}"));
            }
        }
    }

    fn access_log(&mut self, report: &Report) {
        self.section("What the proxies logged");
        for entry in &report.access_log {
            self.line(MARGIN, &self.paint.bold(format!("proxy of {}", entry.proxy)));
            let line = entry.line.replace('\t', " ");
            self.hanging(MARGIN, &line);
        }
    }

    fn metrics(&mut self, report: &Report) {
        self.section("What they counted");
        let names: BTreeSet<_> = report.metrics.iter().map(|metric| metric.name.as_str()).collect();
        let header = format!("{:<52}{:>18}{:>18}", "", Side::Client.pod(), Side::Server.pod());
        self.line(MARGIN, &self.paint.dim(header));
        for name in names {
            let of = |side: Side| {
                let series =
                    report.metrics.iter().filter(|metric| metric.name == name && metric.proxy == side.pod());
                series.fold(0.0, |sum, metric| sum + metric.value)
            };
            self.line(MARGIN, &format!("{name:<52}{:>18}{:>18}", of(Side::Client), of(Side::Server)));
        }
        let Some(series) =
            report.metrics.iter().find(|metric| metric.labels.contains_key("destination_service"))
        else {
            return;
        };
        let labels = series.labels.iter().filter(|(_, value)| *value != "unknown");
        let labels: Vec<_> = labels.map(|(label, value)| format!("{label}={value}")).collect();
        self.hanging(MARGIN, &format!("each by labels such as {}", labels.join(" ")));
    }

    fn cost(&mut self, report: &Report) {
        self.section("What it costs on this machine, where everything shares the processors");
        let header = format!("{:<18}{:>16}{:>16}{:>16}", "", "round trip p50", "p99", "one stream");
        self.line(MARGIN, &self.paint.dim(header));
        for (run, figures) in
            [("without the mesh", &report.cost.without_mesh), ("with the mesh", &report.cost.with_mesh)]
        {
            let Figures { round_trip_p50_us, round_trip_p99_us, gbit_per_s, .. } = figures;
            let [p50, p99] = [round_trip_p50_us, round_trip_p99_us].map(|time| format!("{time:.0} µs"));
            let rate = format!("{gbit_per_s:.1} Gbit/s");
            self.line(MARGIN, &format!("{run:<18}{p50:>16}{p99:>16}{rate:>16}"));
        }
    }

    fn checks(&mut self, report: &Report) {
        self.line(0, "");
        self.line(0, &self.paint.dim("─".repeat(WIDTH)));
        for check in &report.checks {
            let mark = if check.holds { self.paint.good("✓") } else { self.paint.bad("✗") };
            self.line(2, &format!("{mark} {}", check.promise));
        }
        self.line(0, "");
    }

    fn section(&mut self, title: &str) {
        self.sections += 1;
        let number = self.paint.accent(self.sections);
        self.line(0, "");
        self.line(1, &format!("{number}  {}", self.paint.bold(title)));
    }

    /// Text in as many lines as it takes.
    fn wrapped(&mut self, indent: usize, text: &str) {
        for line in wrap(text, WIDTH - indent) {
            self.line(indent, &line);
        }
    }

    /// The same, its further lines moved to the right.
    fn hanging(&mut self, indent: usize, text: &str) {
        for (index, line) in wrap(text, WIDTH - indent - 2).into_iter().enumerate() {
            self.line(indent + if index == 0 { 0 } else { 2 }, &self.paint.dim(line));
        }
    }

    fn line(&mut self, indent: usize, text: &str) {
        if !text.is_empty() {
            self.text.push_str(&" ".repeat(indent));
        }
        self.text.push_str(text);
        self.text.push('\n');
    }
}

/// Breaks at spaces; a longer word has a line to itself.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{
        super::report::{Check, Cost, Decision, LogLine, PodReport, Request},
        *,
    };

    fn report(mode: Mode) -> Report {
        let pod = |name: &str| PodReport {
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            addresses: vec!["192.0.2.10".parse().unwrap(), "2001:db8::a".parse().unwrap()],
            expected_identity: format!("spiffe://example.org/ns/shop/sa/{name}"),
            proved_identity: None,
        };
        let figures = || Figures {
            round_trips: 100,
            round_trip_p50_us: 12_345.6,
            round_trip_p99_us: 99_999.9,
            gbit_per_s: 123.45,
        };
        let row = |only_tls: bool| WireRow {
            marker_seen: !only_tls,
            ports: [15008].into(),
            bytes: 999_999,
            tls_hellos: 10,
            tls_protected_records: 9_999,
            only_tls,
        };
        Report {
            mode,
            pods: vec![pod("frontend"), pod("cart")],
            requests: vec![Request {
                dialled: "[2001:db8:1::10]:80".parse().unwrap(),
                service: Some("cart.shop.svc.cluster.local".to_owned()),
                tunnel: Some("[2001:db8::14]:15008".to_owned()),
                application: None,
                answered: false,
                client: "2001:db8::a".parse().unwrap(),
                source_seen: None,
            }],
            wire: [row(false), row(true)],
            decisions: vec![Decision {
                destination: "[2001:db8::14]:9090".parse().unwrap(),
                expected: false,
                allowed: false,
                explanation: vec![
                    "denied: explicitly denied by: shop/no-admin".to_owned(),
                    "word ".repeat(40),
                ],
                logged: Some("word ".repeat(40)),
            }],
            access_log: vec![LogLine { proxy: "cart", line: "field=value ".repeat(40) }],
            metrics: Vec::new(),
            cost: Cost { without_mesh: figures(), with_mesh: figures() },
            checks: vec![Check { promise: "a promise", holds: false }],
        }
    }

    #[test]
    fn no_line_is_wider_than_the_page() {
        let namespaces =
            Mode::Namespaces { privilege: "an unprivileged user namespace", capture: "nft".to_owned() };
        let one_process = Mode::OneProcess {
            because: "word ".repeat(40),
            remedy: Some("word ".repeat(40)),
            not_shown: "capture",
        };
        for mode in [namespaces, one_process] {
            let page = render(&report(mode), Paint::new(false));
            for line in page.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
        }
    }

    #[test]
    fn without_colours_nothing_is_escaped() {
        let mode = || Mode::OneProcess { because: "a test".to_owned(), remedy: None, not_shown: "capture" };
        assert!(!render(&report(mode()), Paint::new(false)).contains('\x1b'));
        assert!(render(&report(mode()), Paint::new(true)).contains('\x1b'));
    }

    #[test]
    fn lines_break_at_spaces_within_the_width() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("aa bb cc", 8), ["aa bb cc"]);
        assert_eq!(wrap("a toolongword b", 4), ["a", "toolongword", "b"]);
    }
}

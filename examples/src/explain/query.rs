//! Single questions, the matrix, and lint.

use std::io::{self, Write};

use mesh_identity::SpiffeId;
use mesh_policy::{Finding, Level, lint, waypoint::Claims};
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;

use super::{
    Outcome,
    options::{Options, Query, Request},
    reach::{Client, Destination, UNKNOWN, reach},
    world::{CompileError, Compiled, ServicePort, StandIn, World},
};

/// Answers one question.
pub(super) fn answer(
    world: &World,
    options: &Options,
    query: &Query,
    output: &mut impl Write,
) -> Result<Outcome, QueryError> {
    let compiled = compile(world, options)?;
    let from = query
        .from
        .as_deref()
        .map(|text| text.parse::<SpiffeId>().map_err(|error| QueryError::From { text: text.into(), error }));
    let from = from.transpose()?;
    let claims =
        query.request.claims.as_ref().map(Claims::deserialize).transpose().map_err(QueryError::Claims)?;
    let (target, port) = split(&query.to).ok_or_else(|| QueryError::To { text: query.to.clone() })?;
    let unlisted = port.map(|port| ServicePort { port, ..ServicePort::default() });
    let to = find(world, target, port, unlisted.as_ref())?;
    let client = Client {
        peer: from.as_ref(),
        address: query.source.unwrap_or(UNKNOWN),
        sni: query.sni.as_deref(),
        request: &query.request,
        claims: claims.as_ref(),
    };
    let hops = reach(world, &compiled, client, to);
    let allowed = hops.iter().all(super::reach::Hop::allows);
    let verdict = if allowed { "allow" } else { "deny" };
    let stand_ins = stand_ins(world, options);
    if options.json {
        let answer = json!({
            "verdict": verdict,
            "hops": hops,
            "findings": world.findings,
            "standIns": stand_ins,
        });
        writeln!(output, "{answer:#}")?;
    } else {
        writeln!(output, "{verdict}: {} to {}", query.from.as_deref().unwrap_or("plaintext"), query.to)?;
        for hop in &hops {
            writeln!(output, "  {} ({}): {}", hop.at, hop.point, hop.explanation.replace('\n', "\n  "))?;
            hop.note.iter().try_for_each(|note| writeln!(output, "    note: {note}"))?;
        }
        for one in &stand_ins {
            writeln!(output, "  {}", one.to_string().replace('\n', "\n  "))?;
        }
    }
    Ok(if allowed { Outcome::Fine } else { Outcome::Found })
}

/// Prints who may reach what.
pub(super) fn matrix(
    world: &World,
    options: &Options,
    request: &Request,
    output: &mut impl Write,
) -> Result<Outcome, QueryError> {
    let compiled = compile(world, options)?;
    tell_stand_ins(world, options);
    let mut clients: Vec<_> = world
        .workloads
        .iter()
        .filter_map(|workload| world.identity(&workload.namespace, workload.account()))
        .collect();
    clients.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    clients.dedup();
    let mut columns = Vec::new();
    for service in &world.services {
        for port in &service.ports {
            let name = format!("{}/{}:{}", service.namespace, service.name, port.port);
            columns.push((name, Destination::Service(service, port)));
        }
    }
    for workload in &world.workloads {
        let served = world
            .services
            .iter()
            .any(|service| world.endpoints(service).any(|other| std::ptr::eq(other, workload)));
        for port in workload.ports.values().filter(|_| !served) {
            columns.push((
                format!("{}/{}:{port}", workload.namespace, workload.name),
                Destination::Workload(workload, *port),
            ));
        }
    }
    columns.sort_by(|(a, _), (b, _)| a.cmp(b));
    let cells = (clients.len() + 1).saturating_mul(columns.len());
    if cells > MOST_CELLS {
        return Err(QueryError::Matrix { rows: clients.len() + 1, columns: columns.len() });
    }
    let rows = clients.iter().map(Some).chain([None]);
    let first =
        rows.clone().map(|client| client.map_or(PLAINTEXT.len(), |id| id.as_str().len())).max().unwrap_or(0);
    write!(output, "{:first$}", "")?;
    columns.iter().try_for_each(|(name, _)| write!(output, "  {name}"))?;
    writeln!(output)?;
    for peer in rows {
        write!(output, "{:first$}", peer.map_or(PLAINTEXT, SpiffeId::as_str))?;
        for (name, to) in &columns {
            let client = Client { peer, address: UNKNOWN, sni: None, request, claims: None };
            let open = reach(world, &compiled, client, *to).iter().all(super::reach::Hop::allows);
            write!(output, "  {:width$}", if open { "allow" } else { "deny" }, width = name.len())?;
        }
        writeln!(output)?;
    }
    Ok(Outcome::Fine)
}

/// Prints what is wrong, or not as it looks.
pub(super) fn list(world: &World, options: &Options, output: &mut impl Write) -> io::Result<Outcome> {
    let mut findings = world.findings.clone();
    let linted = lint::lint(&world.objects, &world.surroundings(options.semantics));
    findings.extend(world.located(linted));
    tell_stand_ins(world, options);
    // What reading found already has its place as well.
    findings.sort_by(|a, b| order(a).cmp(&order(b)).then(b.place.cmp(&a.place)));
    findings.dedup_by(|a, b| order(a) == order(b));
    for finding in &findings {
        if options.json {
            writeln!(output, "{}", json!(finding))?;
        } else {
            writeln!(output, "{} [{}] {finding}", finding.level, finding.code)?;
        }
    }
    let found = findings.iter().any(|finding| finding.level > Level::Note);
    Ok(if found { Outcome::Found } else { Outcome::Fine })
}

/// Worst first, then by object and field.
fn order(finding: &Finding) -> impl Ord + '_ {
    let Finding { level, object, path, code, value, .. } = finding;
    (std::cmp::Reverse(*level), object, path, *code, value)
}

/// What stands for refused objects, if anything is to.
fn stand_ins(world: &World, options: &Options) -> Vec<StandIn> {
    match options.fail_closed {
        true => world.stand_ins(&world.settings, options.semantics),
        false => Vec::new(),
    }
}

/// Says so beside output of another form.
pub(super) fn tell_stand_ins(world: &World, options: &Options) {
    stand_ins(world, options).iter().for_each(|one| eprintln!("explain: {one}"));
}

fn compile(world: &World, options: &Options) -> Result<Compiled, CompileError> {
    world.compile(&world.settings, options.semantics, options.fail_closed)
}

/// `namespace/name` with or without `:port`.
fn split(text: &str) -> Option<((&str, &str), Option<u16>)> {
    let (namespace, rest) = text.split_once('/')?;
    match rest.split_once(':') {
        Some((name, port)) => Some(((namespace, name), Some(port.parse().ok()?))),
        None => Some(((namespace, rest), None)),
    }
}

fn find<'a>(
    world: &'a World,
    (namespace, name): (&str, &str),
    port: Option<u16>,
    unlisted: Option<&'a ServicePort>,
) -> Result<Destination<'a>, QueryError> {
    let service =
        world.services.iter().find(|service| service.namespace == namespace && service.name == name);
    if let Some(service) = service {
        let listed = service.ports.iter().find(|one| port.is_none_or(|port| one.port == port));
        // Local configurations do not list the ports of services here.
        let any = unlisted.filter(|_| service.ports.is_empty());
        let port = listed.or(any).ok_or_else(|| QueryError::Port { to: format!("{namespace}/{name}") })?;
        return Ok(Destination::Service(service, port));
    }
    let workload =
        world.workloads.iter().find(|workload| workload.namespace == namespace && workload.name == name);
    let workload = workload.ok_or_else(|| QueryError::Unknown { to: format!("{namespace}/{name}") })?;
    let port = port.or_else(|| workload.ports.values().next().copied());
    Ok(Destination::Workload(
        workload,
        port.ok_or_else(|| QueryError::Port { to: format!("{namespace}/{name}") })?,
    ))
}

const PLAINTEXT: &str = "plaintext";
/// As many as a second or two decides, and far more than anybody reads.
const MOST_CELLS: usize = 100_000;

/// Why a question cannot be answered.
#[derive(Debug, Error)]
pub(super) enum QueryError {
    #[error("--claims: {0}")]
    Claims(serde_json::Error),
    #[error("--from {text}: {error}")]
    From { text: String, error: mesh_identity::SpiffeIdError },
    #[error(
        "a matrix of {rows} identities and {columns} ports has more than {MOST_CELLS} cells; name fewer files with -f"
    )]
    Matrix { rows: usize, columns: usize },
    #[error(transparent)]
    Output(#[from] io::Error),
    #[error(transparent)]
    Policies(#[from] CompileError),
    #[error("{to} has no such port; write namespace/name:port")]
    Port { to: String },
    #[error("--to {text}: write namespace/name or namespace/name:port")]
    To { text: String },
    #[error("{to} is neither a service nor a workload of the files")]
    Unknown { to: String },
}

//! What other policies would change of an access log.

use std::{
    io::{self, BufRead, Write},
    path::Path,
};

use mesh_policy::{
    PolicyName,
    simulate::{AccessRecord, Simulation},
};
use thiserror::Error;

use super::{
    Outcome,
    manifests::{self, LoadError},
    options::Options,
    query::tell_stand_ins,
    reach::unsaid_labels,
    world::{CompileError, Compiled, World},
};

/// Lists the connections whose verdict would be another.
pub(super) fn run(
    world: &World,
    options: &Options,
    path: &Path,
    input: impl BufRead,
    output: &mut impl Write,
) -> Result<Outcome, SimulateError> {
    let other = manifests::load(&Options { files: vec![path.to_owned()], ..options.clone() })?;
    let before = world.compile(&world.settings, options.semantics, options.fail_closed);
    let before = before?;
    // The mesh, and where the other files have none the workloads, stay as they are.
    let after = other.compile(&world.settings, options.semantics, options.fail_closed);
    let after = after?;
    for world in [world, &other] {
        tell_stand_ins(world, options);
    }
    let workloads_after = if other.workloads.is_empty() { world } else { &other };
    let (mut connections, mut changes, mut bad) = (0_usize, 0_usize, 0_usize);
    for (index, line) in input.lines().enumerate() {
        let line = line?;
        let record = match AccessRecord::parse(&line) {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(error) => {
                bad += 1;
                writeln!(output, "line {}: not read: {error}", index + 1)?;
                continue;
            }
        };
        connections += 1;
        let before_listed = listed(world, &before, &record);
        let after_listed = listed(workloads_after, &after, &record);
        let simulation = Simulation::new(&before.node, &after.node);
        if let Some(change) = simulation.connection(&record.facts(&before_listed), &after_listed) {
            changes += 1;
            let peer = record.peer.as_ref().map_or("plaintext", |peer| peer.as_str());
            let AccessRecord { source, destination, namespace, workload, .. } = &record;
            writeln!(
                output,
                "line {}: {peer} from {source} to {namespace}/{workload} at {destination}: {change}",
                index + 1
            )?;
        }
    }
    writeln!(output, "{changes} of {connections} inbound connections would be decided otherwise")?;
    Ok(match (bad, changes) {
        (1.., _) => Outcome::BadInput,
        (0, 1..) => Outcome::Found,
        (0, 0) => Outcome::Fine,
    })
}

/// The policies that the workload of a record lists. One that the files do not have lists none by its labels.
fn listed(world: &World, compiled: &Compiled, record: &AccessRecord) -> Vec<PolicyName> {
    let known = world.workload(&record.namespace, &record.workload);
    let nobody = unsaid_labels();
    let mut listed =
        compiled.listing.listed_by(&record.namespace, known.map_or(&nobody, |known| &known.labels));
    listed.extend(known.iter().flat_map(|known| known.listed.iter().cloned()));
    listed
}

/// Why nothing can be simulated.
#[derive(Debug, Error)]
pub(super) enum SimulateError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Output(#[from] io::Error),
    #[error(transparent)]
    Policies(#[from] CompileError),
}

use examples::lab::Workspace;

use super::{
    bed::{Bed, BedError},
    contender::Contender,
    machine::Machine,
    negotiated::Negotiated,
    options::Options,
    report,
    row::Row,
    sample::{self, Quantity, Sample},
    summary::Summary,
};

/// Everything a run found out.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) machine: Machine,
    pub(super) options: Options,
    pub(super) lanes: Vec<Lane>,
    pub(super) rows: Vec<RowOutcome>,
    pub(super) failures: Vec<Failure>,
    /// CPU time of other programs during the measurements, as a share of one processor.
    pub(super) foreign: Summary,
}

/// A contender as it ran.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) contender: Contender,
    pub(super) negotiated: Option<Negotiated>,
}

/// A row as it was measured.
#[derive(Debug)]
pub(super) struct RowOutcome {
    pub(super) row: Row,
    /// One for each contender.
    pub(super) cells: Vec<Vec<(Quantity, Summary)>>,
}

/// A measurement that does not count.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) row: Row,
    pub(super) contender: Contender,
    pub(super) message: String,
}

/// Measures every row on every contender, in interleaved rounds.
///
/// A measurement that fails is reported and its bed replaced; what cannot be started ends the run.
pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<Outcome, BedError> {
    let mut run = Run { workspace, options, beds_made: 0, failures: Vec::new(), foreign: Summary::default() };
    let mut beds = Vec::new();
    for contender in &options.contenders {
        progress(&format!("starting {contender}"));
        beds.push(run.bed(contender)?);
    }
    let lanes = options.contenders.iter().zip(&beds);
    let lanes =
        lanes.map(|(contender, bed)| Lane { contender: contender.clone(), negotiated: bed.negotiated() });
    let lanes = lanes.collect();
    let mut rows = Vec::new();
    for row in &options.rows {
        rows.push(run.row(*row, &mut beds)?);
    }
    progress("done");
    let Run { failures, foreign, .. } = run;
    Ok(Outcome { machine: Machine::look(), options: options.clone(), lanes, rows, failures, foreign })
}

struct Run<'a> {
    workspace: &'a Workspace,
    options: &'a Options,
    beds_made: usize,
    failures: Vec<Failure>,
    foreign: Summary,
}

impl Run<'_> {
    fn bed(&mut self, contender: &Contender) -> Result<Bed, BedError> {
        self.beds_made += 1;
        Bed::start(self.workspace, contender, self.options.workers, self.beds_made)
    }

    fn row(&mut self, row: Row, beds: &mut [Bed]) -> Result<RowOutcome, BedError> {
        let mut cells = vec![Vec::new(); beds.len()];
        for round in 1..=self.options.rounds {
            for ((bed, cell), contender) in beds.iter_mut().zip(&mut cells).zip(&self.options.contenders) {
                progress(&format!("{}, round {round}: {contender}", row.title()));
                let fresh =
                    if row == Row::Idle && contender.has_hops() { Some(self.bed(contender)?) } else { None };
                match sample::measure(row, fresh.as_ref().unwrap_or(bed), self.options.scale) {
                    Ok(sample) => self.add(sample, cell),
                    Err(error) => {
                        let message = report::chain(&error);
                        eprintln!("e2e: {}, {contender}: {message}", row.title());
                        self.failures.push(Failure { row, contender: contender.clone(), message });
                        *bed = self.bed(contender)?;
                    }
                }
            }
        }
        Ok(RowOutcome { row, cells })
    }

    fn add(&mut self, sample: Sample, cell: &mut Vec<(Quantity, Summary)>) {
        self.foreign.rounds.extend(sample.foreign);
        for (quantity, value) in sample.values {
            match cell.iter_mut().find(|(known, _)| *known == quantity) {
                Some((_, summary)) => summary.rounds.push(value),
                None => cell.push((quantity, Summary { rounds: vec![value] })),
            }
        }
    }
}

fn progress(what: &str) {
    eprintln!("e2e: {what}");
}

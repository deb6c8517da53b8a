use std::{error::Error, fmt::Write, iter};

use serde_json::{Value, json};

use super::{
    run::{Lane, Outcome, RowOutcome},
    sample::Quantity,
    summary::Summary,
};

/// Width of the column with the quantities' names.
const NAMES: usize = 38;
/// Least width of a contender's column.
const COLUMN: usize = 17;

/// The outcome as a page of text.
pub(super) fn table(outcome: &Outcome) -> String {
    let mut page = String::new();
    // A `String` takes every write.
    let _ = writeln!(page, "{}", outcome.machine);
    let _ = writeln!(page, "{}", conditions(outcome));
    for Lane { contender, negotiated } in &outcome.lanes {
        if let Some(negotiated) = negotiated {
            let _ = writeln!(page, "{contender}: {negotiated}");
        }
    }
    let names: Vec<_> = outcome.lanes.iter().map(|lane| lane.contender.to_string()).collect();
    let widths: Vec<_> = names.iter().map(|name| name.chars().count().max(COLUMN) + 1).collect();
    for row in &outcome.rows {
        let _ = writeln!(page, "\n{}", row.row.title());
        write_line(&mut page, "", &names, &widths);
        for quantity in quantities(row) {
            let cells: Vec<_> = row.cells.iter().map(|cell| text(find(cell, quantity))).collect();
            write_line(&mut page, quantity.name(), &cells, &widths);
        }
    }
    for failure in &outcome.failures {
        let _ =
            writeln!(page, "\nFAILED {}, {}: {}", failure.row.title(), failure.contender, failure.message);
    }
    page.truncate(page.trim_end().len());
    page
}

/// The outcome as JSON.
pub(super) fn json(outcome: &Outcome) -> String {
    let Outcome { machine, options, lanes, rows, failures, foreign } = outcome;
    let rows = rows.iter().map(|row| json!({ "row": row.row.name(), "results": results(row, lanes) }));
    let failures = failures.iter().map(|failure| {
        json!({
            "row": failure.row.name(),
            "contender": failure.contender.to_string(),
            "error": failure.message,
        })
    });
    let contenders = lanes.iter().map(|Lane { contender, negotiated }| {
        json!({ "name": contender.to_string(), "tls": negotiated.map(|negotiated| negotiated.to_string()) })
    });
    let page = json!({
        "machine": {
            "processor": machine.processor,
            "processors": machine.processors,
            "kernel": machine.kernel,
            "congestion_control": machine.congestion,
            "unix_time": machine.unix_time,
            "other_programs_processors": foreign.median(),
        },
        "rounds": options.rounds,
        "seconds": options.scale.duration.as_secs_f64(),
        "workers": options.workers,
        "contenders": contenders.collect::<Value>(),
        "rows": rows.collect::<Value>(),
        "failures": failures.collect::<Value>(),
    });
    format!("{page:#}")
}

/// An error with its causes.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn conditions(outcome: &Outcome) -> String {
    let Outcome { options, foreign, .. } = outcome;
    format!(
        "{} × {:?} each, median ± half the range; {} threads per proxy; other programs took {:.0} % of one processor",
        options.rounds,
        options.scale.duration,
        options.workers,
        foreign.median().unwrap_or_default() * 100.0,
    )
}

/// The quantities of a row, in the order of whoever has most.
fn quantities(row: &RowOutcome) -> Vec<Quantity> {
    let most = row.cells.iter().max_by_key(|cell| cell.len());
    most.into_iter().flatten().map(|(quantity, _)| *quantity).collect()
}

fn results(row: &RowOutcome, lanes: &[Lane]) -> Value {
    let results = lanes.iter().zip(&row.cells).map(|(lane, cell)| {
        let quantities = cell.iter().map(|(quantity, summary)| {
            json!({
                "quantity": quantity.name(),
                "median": summary.median(),
                "spread": summary.spread(),
                "rounds": summary.rounds,
            })
        });
        json!({ "contender": lane.contender.to_string(), "quantities": quantities.collect::<Value>() })
    });
    results.collect()
}

fn find(cell: &[(Quantity, Summary)], quantity: Quantity) -> Option<&Summary> {
    cell.iter().find(|(known, _)| *known == quantity).map(|(_, summary)| summary)
}

fn text(summary: Option<&Summary>) -> String {
    let Some(median) = summary.and_then(Summary::median) else { return "–".to_owned() };
    let spread = summary.and_then(Summary::spread).map(|spread| format!(" ±{:.0} %", spread * 100.0));
    format!("{}{}", figure(median), spread.unwrap_or_default())
}

/// Three significant digits, or all before the point.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        below if below < 10.0 => 2,
        below if below < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

fn write_line(page: &mut String, name: &str, cells: &[String], widths: &[usize]) {
    let _ = write!(page, "  {name:NAMES$}");
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(page, "{cell:>width$}");
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let figures = [0.0, 0.123, 9.876, 54.32, 321.9, 57_123.4].map(figure);
        assert_eq!(figures, ["0", "0.12", "9.88", "54.3", "322", "57123"]);
    }

    #[test]
    fn cells_show_what_there_is() {
        assert_eq!(text(None), "–");
        assert_eq!(text(Some(&Summary { rounds: vec![5.0] })), "5.00");
        assert_eq!(text(Some(&Summary { rounds: vec![90.0, 100.0, 110.0] })), "100 ±10 %");
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let error = super::super::bed::BedError::Relay(io::Error::other("x"));
        assert_eq!(chain(&error), "a relay cannot be started: x");
    }
}

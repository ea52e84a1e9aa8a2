//! Results of a measurement: a Markdown table for people and one JSON line for programs.

use serde::Serialize;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub work: String,
    /// Our figure; null where it could not be taken.
    pub ours: Option<f64>,
    /// The peer's figure in the same run.
    pub peer: Option<f64>,
    /// Ours over the peer's.
    pub ratio: Option<f64>,
    /// The goal, in the words of the table.
    pub goal: Option<String>,
    /// Whether the goal is met; null where the row only reports.
    pub holds: Option<bool>,
    /// Unit of the figures.
    pub unit: String,
    /// What a reader must know: what is missing, how to install it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Row {
    /// A figure that is only reported.
    pub fn report(work: impl Into<String>, ours: f64, unit: &str) -> Self {
        Self {
            work: work.into(),
            ours: Some(ours),
            peer: None,
            ratio: None,
            goal: None,
            holds: None,
            unit: unit.to_owned(),
            note: None,
        }
    }

    /// A figure that must not exceed `most`.
    pub fn at_most(work: impl Into<String>, ours: f64, most: f64, unit: &str) -> Self {
        Self {
            goal: Some(format!("<= {most} {unit}")),
            holds: Some(ours <= most),
            ..Self::report(work, ours, unit)
        }
    }

    /// A figure beside a peer's, whose ratio must not exceed `most` where one is given.
    pub fn against(
        work: impl Into<String>,
        ours: f64,
        peer: f64,
        most: Option<f64>,
        unit: &str,
    ) -> Self {
        let ratio = ours / peer;
        Self {
            peer: Some(peer),
            ratio: Some(ratio),
            goal: most.map(|most| format!("<= {most}x")),
            holds: most.map(|most| ratio <= most),
            ..Self::report(work, ours, unit)
        }
    }

    /// A row whose figure or peer is missing, with the reason.
    pub fn missing(
        work: impl Into<String>,
        ours: Option<f64>,
        goal: Option<String>,
        unit: &str,
        note: impl Into<String>,
    ) -> Self {
        Self {
            work: work.into(),
            ours,
            peer: None,
            ratio: None,
            holds: goal.as_ref().map(|_| false),
            goal,
            unit: unit.to_owned(),
            note: Some(note.into()),
        }
    }
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(v) if v != 0.0 && v.abs() < 0.01 => format!("{v:.5}"),
        Some(v) if v.abs() < 10.0 => format!("{v:.3}"),
        Some(v) => format!("{v:.1}"),
    }
}

/// Prints the table and, last, the JSON object.
pub fn print(bench: &str, rows: &[Row]) {
    println!("| work | ours | peer | ratio | unit | goal | holds |");
    println!("|---|---|---|---|---|---|---|");
    for row in rows {
        println!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            row.work,
            number(row.ours),
            number(row.peer),
            number(row.ratio),
            row.unit,
            row.goal.as_deref().unwrap_or("-"),
            match row.holds {
                None => "-",
                Some(true) => "yes",
                Some(false) => "no",
            }
        );
    }
    for row in rows {
        if let Some(note) = &row.note {
            println!("\n{}: {note}", row.work);
        }
    }
    let line = serde_json::json!({ "bench": bench, "rows": rows });
    println!("\n{line}");
}

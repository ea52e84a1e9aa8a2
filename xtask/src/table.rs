//! Results of a measurement: a Markdown table for people and, as the last line, one JSON object for programs:
//! `{"bench": NAME, "rows": [{"work", "ours", "peer", "ratio", "goal", "holds", "unit"}]}`.

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
    /// The most that `ratio` may be where there is a peer to compare with, otherwise the most that `ours` may be;
    /// null where the row only reports.
    pub goal: Option<f64>,
    /// Whether the goal is met; null where the row only reports.
    pub holds: Option<bool>,
    /// Unit of the figures.
    pub unit: String,
    /// What the goal limits.
    #[serde(skip)]
    limits: Limits,
    /// What a reader must know: what is missing, how to install it.
    #[serde(skip)]
    note: Option<String>,
}

/// What a goal limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limits {
    Ours,
    Ratio,
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
            limits: Limits::Ours,
            note: None,
        }
    }

    /// A figure that must not exceed `most`.
    pub fn at_most(work: impl Into<String>, ours: f64, most: f64, unit: &str) -> Self {
        Self {
            goal: Some(most),
            holds: Some(ours <= most),
            ..Self::report(work, ours, unit)
        }
    }

    /// A figure beside a peer's, whose ratio must not exceed `most`.
    pub fn against(work: impl Into<String>, ours: f64, peer: f64, most: f64, unit: &str) -> Self {
        let ratio = ours / peer;
        Self {
            peer: Some(peer),
            ratio: Some(ratio),
            goal: Some(most),
            holds: Some(ratio <= most),
            limits: Limits::Ratio,
            ..Self::report(work, ours, unit)
        }
    }

    /// A figure whose peer could not be measured, with the reason.
    pub fn no_peer(
        work: impl Into<String>,
        ours: f64,
        most: f64,
        unit: &str,
        note: String,
    ) -> Self {
        Self {
            goal: Some(most),
            holds: Some(false),
            limits: Limits::Ratio,
            note: Some(note),
            ..Self::report(work, ours, unit)
        }
    }

    /// A figure that could not be taken, with the reason.
    pub fn missing(work: impl Into<String>, most: Option<f64>, unit: &str, note: String) -> Self {
        Self {
            ours: None,
            goal: most,
            holds: most.map(|_| false),
            note: Some(note),
            ..Self::report(work, 0.0, unit)
        }
    }

    /// The goal in the words of the table.
    fn goal_words(&self) -> String {
        match (self.goal, self.limits) {
            (None, _) => "-".to_owned(),
            (Some(most), Limits::Ours) => format!("<= {most} {}", self.unit),
            (Some(most), Limits::Ratio) => format!("<= {most}x the peer"),
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
    println!("{}", shown(bench, rows));
}

/// What [`print`] prints.
fn shown(bench: &str, rows: &[Row]) -> String {
    let mut lines = vec![
        "| work | ours | peer | ratio | unit | goal | holds |".to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(rows.iter().map(|row| {
        format!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            row.work,
            number(row.ours),
            number(row.peer),
            number(row.ratio),
            row.unit,
            row.goal_words(),
            match row.holds {
                None => "-",
                Some(true) => "yes",
                Some(false) => "no",
            }
        )
    }));
    let mut notes = Vec::new();
    for note in rows.iter().filter_map(|row| row.note.as_deref()) {
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    lines.extend(notes.iter().map(|note| format!("\n{note}")));
    lines.push(format!(
        "\n{}",
        serde_json::json!({ "bench": bench, "rows": rows })
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_last_line_holds_every_row() {
        let rows = [
            Row::report("a", 1.0, "ms"),
            Row::at_most("b", 3.0, 2.0, "%"),
            Row::against("c", 1.0, 2.0, 1.25, "ms"),
            Row::no_peer("d", 1.0, 1.25, "ms", "install it".to_owned()),
            Row::missing("e", Some(15.0), "%", "no data".to_owned()),
            Row::missing("f", None, "%", "no data".to_owned()),
        ];
        let text = shown("name", &rows);
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let row = |work, ours, peer, ratio, goal, holds, unit| {
            json!({"work": work, "ours": ours, "peer": peer, "ratio": ratio, "goal": goal,
                   "holds": holds, "unit": unit})
        };
        let null = Value::Null;
        let expected = json!({"bench": "name", "rows": [
            row("a", json!(1.0), null.clone(), null.clone(), null.clone(), null.clone(), "ms"),
            row("b", json!(3.0), null.clone(), null.clone(), json!(2.0), json!(false), "%"),
            row("c", json!(1.0), json!(2.0), json!(0.5), json!(1.25), json!(true), "ms"),
            row("d", json!(1.0), null.clone(), null.clone(), json!(1.25), json!(false), "ms"),
            row("e", null.clone(), null.clone(), null.clone(), json!(15.0), json!(false), "%"),
            row("f", null.clone(), null.clone(), null.clone(), null.clone(), null, "%"),
        ]});
        assert_eq!(last, expected);
        assert!(text.contains("| c | 1.000 | 2.000 | 0.500 | ms | <= 1.25x the peer | yes |"));
        assert_eq!(text.matches("no data").count(), 1, "a reason is said once");
        assert!(text.contains("install it"));
    }
}

//! A student's errors against the time its teacher was trained for, one curve a kind of teacher: the paper's second
//! claim in a picture.

use super::table::{Row, Tables};
use crate::report::svg::{Axis, Chart, Series};

/// Kinds of teachers whose budget is varied, by the names of their arms.
const KINDS: [&str; 2] = ["oracle", "conventional"];

/// The picture of a regime as an `<svg>` element; none where no teacher was trained for less than its whole time.
pub fn budgets(tables: &Tables, regime: &str) -> Option<String> {
    let mut series = Vec::new();
    for kind in KINDS {
        let less = format!("budget-{kind}-");
        let own =
            |row: &&Row| row.regime == regime && (row.arm == kind || row.arm.starts_with(&less));
        let rows = tables.budget.iter().chain(&tables.rows).filter(own);
        let mut points: Vec<([f64; 2], &str)> = rows
            .filter_map(|row| Some(([row.teacher_seconds? / 60.0, row.wer?], &*row.arm)))
            .collect();
        if points.len() > 1 {
            points.sort_by(|a, b| a.0[0].total_cmp(&b.0[0]));
            let labels = points.iter().map(|(_, arm)| {
                let part = arm.strip_prefix(&less).unwrap_or("whole");
                part.to_owned()
            });
            let labels = labels.collect();
            let points = points.iter().map(|(point, _)| *point).collect();
            series.push(Series::line(kind, points).with_dots().with_labels(labels));
        }
    }
    if series.is_empty() {
        return None;
    }
    let mut chart = Chart::new(
        &format!("Student's WER over its teacher's training, {regime}"),
        Axis::new("processor minutes of the teacher to its best").log(),
        Axis::new("%"),
    );
    chart.series = series;
    Some(chart.to_svg())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::record::{TeacherRecord, sample};
    use crate::proof::{Group, table};
    use crate::teacher::guards::Findings;

    #[test]
    fn curves_run_through_the_budgets_to_the_whole() {
        let mut records = Vec::new();
        for (arm, errors, seconds) in [
            ("budget-oracle-tenth", 30, 60.0),
            ("budget-oracle-half", 22, 300.0),
            ("oracle", 20, 600.0),
        ] {
            let mut record = sample(arm, 1, &[("s", errors, 100)]);
            record.teacher = Some(TeacherRecord {
                recipe: arm.to_owned(),
                train_wer: 1.0,
                seconds,
                steps: 10,
                best_seconds: seconds,
                best_steps: 10,
                findings: Findings::default(),
            });
            if arm.starts_with("budget") {
                record.group = Group::Budget;
            }
            records.push(record);
        }
        let tables = table(&records);
        let picture = budgets(&tables, "toy").unwrap();
        for part in ["tenth", "half", "whole", "oracle"] {
            assert!(picture.contains(part), "{part}");
        }
        assert!(!picture.contains("conventional"));
        assert_eq!(budgets(&tables, "another"), None);
    }
}

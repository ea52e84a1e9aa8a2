//! The results as documentation: numbers, pictures, and the tables of `docs/decoding.md`.

use super::commands::Commands;
use super::words::Calibration;
use super::{BEAMS, Place, Way, beam_name};
use crate::plot::{Axis, Chart, Scale, Series};
use crate::process::root;
use crate::table::Row;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::Path;

/// The tables stand between these lines, and whatever stood there is replaced.
const BEGIN: &str = "<!-- cargo xtask eval decode: begin -->";
const END: &str = "<!-- cargo xtask eval decode: end -->";

pub(super) fn write(
    place: &Place,
    ways: &[Way],
    confidences: &[(&str, Calibration, Calibration)],
    commands: &Commands,
    rows: &[Row],
) -> Result<()> {
    let docs = root().join("docs");
    let results = docs.join("results");
    std::fs::create_dir_all(&results)?;
    let save = |name: &str, content: String| {
        let path = results.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    let numbers = json!({ "eval": "decode", "model": place.model, "rows": rows });
    save("decoding.json", format!("{numbers:#}\n"))?;
    for (set, file) in sets(ways) {
        save(&format!("{file}-accuracy.svg"), accuracy(set, ways).svg())?;
    }
    save("calibration.svg", calibration(confidences).svg())?;
    save("commands.svg", rejection(commands).svg())?;
    let page = docs.join("decoding.md");
    let text = std::fs::read_to_string(&page)
        .with_context(|| format!("cannot read {}", page.display()))?;
    let text = replaced(&text, &tables(place, ways, rows), &page)?;
    std::fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))
}

/// The sets with the beginnings of their file names.
fn sets(ways: &[Way]) -> Vec<(&'static str, &'static str)> {
    let mut sets: Vec<&'static str> = ways.iter().map(|way| way.set).collect();
    sets.dedup();
    let file = |set: &'static str| set.split_whitespace().next().unwrap_or(set);
    sets.into_iter().map(|set| (set, file(set))).collect()
}

fn accuracy(set: &str, ways: &[Way]) -> Chart {
    let own: Vec<&Way> = ways.iter().filter(|way| way.set == set).collect();
    let find = |name: &str| own.iter().find(|way| way.name == name);
    let along = |name: &str, suffix: &str| {
        let found = BEAMS
            .iter()
            .filter_map(|&width| Some((width, find(&format!("{}{suffix}", beam_name(width)))?)));
        let (labels, points) = found
            .map(|(width, way)| (width.to_string(), (way.time, way.wer)))
            .unzip();
        Series {
            name: name.to_owned(),
            points,
            labels,
            line: true,
        }
    };
    let mut series = vec![
        along("beam", ""),
        along("beam + LM", " + LM"),
        along("beam + LM + lexicon", " + LM + lexicon"),
    ];
    if let Some(greedy) = find("greedy") {
        series.push(Series {
            name: "greedy".to_owned(),
            points: vec![(greedy.time, greedy.wer)],
            labels: Vec::new(),
            line: false,
        });
    }
    Chart {
        title: format!("{set}: accuracy against time (beam width beside the points)"),
        x: Axis::around(
            "decoding, ms for a second of audio",
            Scale::Logarithmic,
            own.iter().map(|way| way.time),
        ),
        y: Axis::around(
            "word error rate, %",
            Scale::Linear,
            own.iter().map(|way| way.wer),
        ),
        series,
        diagonal: false,
    }
}

fn calibration(confidences: &[(&str, Calibration, Calibration)]) -> Chart {
    let mut series = Vec::new();
    for (set, greedy, beam) in confidences {
        for (name, calibration) in [("greedy", greedy), ("beam", beam)] {
            series.push(Series {
                name: format!("{}, {name}", set.split('_').next().unwrap_or(set)),
                points: calibration
                    .bins
                    .iter()
                    .map(|&(_, sure, right)| (sure, right))
                    .collect(),
                labels: Vec::new(),
                line: true,
            });
        }
    }
    Chart {
        title: "Confidence of words against how many of them are right".to_owned(),
        x: Axis::new("mean confidence", Scale::Linear, 0.0, 1.0),
        y: Axis::new("right", Scale::Linear, 0.0, 1.0),
        series,
        diagonal: true,
    }
}

fn rejection(commands: &Commands) -> Chart {
    let curves = commands.others.iter().map(|other| Series {
        name: other.name.to_owned(),
        points: commands
            .curve(other)
            .iter()
            .map(|&(_, recall, alarms)| (alarms, recall))
            .collect(),
        labels: Vec::new(),
        line: true,
    });
    let series: Vec<Series> = curves.collect();
    let most = series
        .iter()
        .flat_map(|s| &s.points)
        .map(|p| p.0)
        .fold(1.0, f64::max);
    Chart {
        title: format!(
            "Commands understood against false alarms, list of {}",
            commands.phrases
        ),
        // No alarm at all lies at the left edge.
        x: Axis::new("false alarms an hour", Scale::Logarithmic, 1.0, most * 1.2),
        y: Axis::new("commands right, %", Scale::Linear, 0.0, 100.0),
        series,
        diagonal: false,
    }
}

fn tables(place: &Place, ways: &[Way], rows: &[Row]) -> String {
    let mut lines = vec![format!("Model: `{}`.", place.model), String::new()];
    for (set, file) in sets(ways) {
        lines.push(format!("| {set} | WER % | CER % | ms per s of audio |"));
        lines.push("|---|---|---|---|".to_owned());
        for way in ways.iter().filter(|way| way.set == set) {
            lines.push(format!(
                "| {} | {:.2} | {:.2} | {:.3} |",
                way.name, way.wer, way.cer, way.time
            ));
        }
        lines.push(String::new());
        lines.push(format!(
            "![accuracy against time](results/{file}-accuracy.svg)"
        ));
        lines.push(String::new());
    }
    let is_of_a_way = |row: &Row| {
        ["WER", "CER", "decoding"]
            .iter()
            .any(|what| row.work.ends_with(&format!(": {what}")))
    };
    lines.push("| confidence, times, commands | | |".to_owned());
    lines.push("|---|---|---|".to_owned());
    for row in rows.iter().filter(|row| !is_of_a_way(row)) {
        let value = row
            .ours
            .map_or("not measured".to_owned(), |value| format!("{value:.2}"));
        lines.push(format!("| {} | {value} | {} |", row.work, row.unit));
    }
    lines.push(String::new());
    lines.push(
        "![calibration](results/calibration.svg)\n\n![commands](results/commands.svg)".to_owned(),
    );
    lines.join("\n")
}

/// The page with new tables between the two marks.
fn replaced(page: &str, tables: &str, path: &Path) -> Result<String> {
    let found = page.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
    });
    found.with_context(|| format!("{} lacks the lines {BEGIN} and {END}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_replaced_between_their_marks() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replaced(&page, "new", Path::new("p.md")).unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        let error = replaced("none", "new", Path::new("p.md")).unwrap_err();
        assert!(error.to_string().contains("p.md"));
    }

    #[test]
    fn each_set_has_its_picture() {
        let way = |set, name: &str, wer, time| Way {
            set,
            name: name.to_owned(),
            wer,
            cer: 1.0,
            time,
        };
        let ways = [
            way("an4 dev", "greedy", 15.0, 0.01),
            way("an4 dev", "beam 5", 14.0, 0.02),
            way("an4 dev", "beam 10", 13.0, 0.04),
            way("big dev", "greedy", 60.0, 0.01),
        ];
        assert_eq!(sets(&ways), [("an4 dev", "an4"), ("big dev", "big")]);
        let chart = accuracy("an4 dev", &ways);
        assert_eq!(chart.series[0].points, [(0.02, 14.0), (0.04, 13.0)]);
        assert_eq!(chart.series.last().unwrap().points, [(0.01, 15.0)]);
    }
}

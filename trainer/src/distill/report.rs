//! The report of a distillation: one HTML page with tables and SVG pictures, no scripts, nothing loaded.
//!
//! For a few training utterances: the features, what teacher and student say of each frame, what the teacher attends
//! to. Other curves of the trainings are in the reports of the runs themselves.

use super::picture::{Picture, Trace};
use super::stages::{Distilled, Workshop};
use crate::Result;
use crate::config::Recipe;
use crate::report::svg::escape;
use crate::report::{Metrics, word_errors_over_epochs};
use crate::teacher::align::{deviation, moves, spikes};
use crate::teacher::ask::{Aligner, Answer, Question, Teacher};
use crate::train::step::Extras;
use std::fmt::Write;
use std::path::Path;

/// Utterances that are drawn.
const DRAWN: usize = 3;

/// Utterances that the spikes of teacher and student are compared on.
const COMPARED: usize = 200;

/// What the page tells of.
pub(super) struct Page<'a> {
    pub workshop: &'a Workshop<'a>,
    pub recipe: &'a Recipe,
    pub teacher: Option<&'a Path>,
    pub student: &'a Path,
    pub distilled: &'a Distilled,
}

impl Page<'_> {
    /// The page.
    pub fn html(&self) -> Result<String> {
        let name = escape(&self.recipe.name);
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{name}</title>\n<style>\
             body{{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}}\
             table{{border-collapse:collapse}}td,th{{border-bottom:1px solid #ccc;padding:.2em .8em;text-align:right}}\
             td:first-child,th:first-child{{text-align:left}}svg{{max-width:100%}}\
             @media(prefers-color-scheme:dark){{body{{background:#181818;color:#ddd}}svg{{background:#eee}}}}\
             </style></head><body>\n<h1>{name}</h1>\n"
        );
        self.trainings(&mut out);
        self.findings(&mut out);
        self.pictures(&mut out)?;
        let recipe = escape(&self.recipe.to_toml()?);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "<h2>Recipe</h2>\n<details><summary>All values</summary><pre>{recipe}</pre></details>\n</body></html>"
        );
        Ok(out)
    }

    fn trainings(&self, out: &mut String) {
        out.push_str(
            "<h2>Trainings</h2>\n<table><tr><th></th><th>WER %</th><th>minutes</th><th>updates</th>\
             <th>minutes to the best</th></tr>\n",
        );
        let teacher = self.distilled.teacher.as_ref();
        let rows = teacher
            .map(|finished| ("teacher", finished))
            .into_iter()
            .chain([("student", &self.distilled.student)]);
        for (who, finished) in rows {
            let wer = finished
                .best_wer
                .map_or("-".to_owned(), |wer| format!("{wer:.2}"));
            let _ = writeln!(
                out,
                "<tr><td>{who}</td><td>{wer}</td><td>{:.1}</td><td>{}</td><td>{:.1}</td></tr>",
                finished.seconds / 60.0,
                finished.steps,
                finished.best_seconds / 60.0
            );
        }
        out.push_str(
            "</table>\n<p>Errors are means over the development sets, greedy, of the checkpoint that is used. An oracle \
             teacher's error is given the transcript.</p>\n",
        );
        let curves = [
            ("Teacher: word error rate, %", self.teacher),
            ("Student: word error rate, %", Some(self.student)),
        ];
        for (title, folder) in curves {
            // A teacher trained elsewhere may have left its metrics behind.
            if let Some(Ok(metrics)) = folder.map(Metrics::read) {
                out.push_str(&word_errors_over_epochs(title, &metrics));
            }
        }
    }

    fn findings(&self, out: &mut String) {
        let Some(found) = &self.distilled.findings else {
            return;
        };
        let _ = writeln!(
            out,
            "<h2>Does the teacher listen?</h2>\n<p>Tried on {} training utterances, transcripts given.</p>\n<table>",
            found.utterances
        );
        let percent = |value: f64| format!("{:.1} %", 100.0 * value);
        let rows = [
            ("said rightly", percent(found.right)),
            ("symbol errors", format!("{:.1} %", found.symbol_errors)),
            (
                "spikes' move over the audio's (a clock: 0)",
                format!("{:.3}", found.shift),
            ),
            ("said although the audio is another's", percent(found.swap)),
            (
                "part said although the audio is another's",
                percent(found.swap_part),
            ),
            ("said although the audio is noise", percent(found.noise)),
            (
                "part said although the audio is noise",
                percent(found.noise_part),
            ),
            (
                "said although the halves are exchanged",
                percent(found.splice),
            ),
            (
                "attention that goes forward",
                found.monotone.map_or("-".to_owned(), percent),
            ),
            (
                "frames from a teacher of another seed",
                found.seeds.map_or("-".to_owned(), |d| format!("{d:.2}")),
            ),
        ];
        for (what, value) in rows {
            let _ = writeln!(out, "<tr><td>{what}</td><td>{value}</td></tr>");
        }
        out.push_str("</table>\n");
    }

    fn pictures(&self, out: &mut String) -> Result<()> {
        let Some(folder) = self.teacher else {
            return Ok(());
        };
        let engine = self.workshop.engine;
        let extras = Extras {
            hidden: false,
            attention: true,
        };
        let mut teacher = Teacher::open(engine, folder, extras)?;
        let mut student = Teacher::open(engine, self.student, Extras::default())?;
        let probes = self.workshop.probes(teacher.settled(), COMPARED)?;
        let ours = student.ask(&probes)?;
        let theirs = teacher.ask(&probes)?;
        let blank = teacher.blank();
        let distances: Vec<f64> = theirs
            .iter()
            .zip(&ours)
            .flat_map(|(a, b)| {
                moves(
                    &spikes(a.log_probs.view(), blank),
                    &spikes(b.log_probs.view(), blank),
                )
            })
            .collect();
        let _ = writeln!(
            out,
            "<h2>Alignments</h2>\n<p>On {} training utterances {} spikes could be compared: the student's stand {:.2} \
             frames after the teacher's on average, with a standard deviation of {:.2} frames.</p>",
            probes.len(),
            distances.len(),
            crate::teacher::align::mean(&distances),
            deviation(&distances)
        );
        let step = (probes.len() / DRAWN).max(1);
        for index in (0..probes.len()).step_by(step).take(DRAWN) {
            out.push_str(&self.picture(&probes[index], &theirs[index], &ours[index], &teacher));
        }
        Ok(())
    }

    fn picture(
        &self,
        question: &Question,
        theirs: &Answer,
        ours: &Answer,
        teacher: &Teacher,
    ) -> String {
        let pieces = &teacher.settled().tokens.pieces;
        let said: String = question
            .targets
            .iter()
            .filter_map(|&id| pieces.get(id as usize).map(String::as_str))
            .collect();
        let mut picture = Picture::new(theirs.log_probs.nrows());
        picture.heat("features", question.features.view(), false);
        picture.traces("teacher", theirs.log_probs.view(), pieces, Trace::Teacher);
        picture.traces("student", ours.log_probs.view(), pieces, Trace::Student);
        if let Some(attention) = &theirs.attention {
            picture.heat("attention", attention.t(), true);
        }
        format!("<h3>{}</h3>\n{}\n", escape(&said), picture.svg())
    }
}

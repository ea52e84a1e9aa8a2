//! The stages of a distillation, each in a folder of its own under the run's: `teacher` is trained and checked,
//! `student` distilled, `model` exported and verified, `report.html` written. Every stage goes on where it was
//! interrupted, and one that is finished is not done again.

use super::{Distillation, keep, prepare};
use crate::config::{GuardConfig, Recipe};
use crate::data::task::TaskData;
use crate::export::{ExportOptions, Exported, export};
use crate::graph::exec::Engine;
use crate::onnx::Storage;
use crate::pipeline::{Settled, Sitting, run_on};
use crate::teacher::ask::{Question, Teacher};
use crate::teacher::guards::{Findings, examine};
use crate::train::checkpoint::{Checkpoint, hex, write_atomically};
use crate::train::run::{Observer, best_path};
use crate::train::step::Extras;
use crate::train::supervise::Supervision;
use crate::{Error, ErrorKind, Result};
use acolyte::model::Library;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a training ended: `finished.json` in its folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// SHA-256 of the recipe.
    pub recipe: String,
    /// Processor seconds of training in all, over all threads.
    pub seconds: f64,
    /// Updates in all.
    pub steps: u64,
    /// Processor seconds to the best checkpoint, which is the one that is used.
    pub best_seconds: f64,
    /// Updates to the best checkpoint.
    pub best_steps: u64,
    /// Mean error of the best checkpoint on the development sets, in percent; absent where there is none.
    pub best_wer: Option<f64>,
}

/// The parts of a distillation's folder.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The whole.
    pub run: PathBuf,
    /// The teacher's training.
    pub teacher: PathBuf,
    /// The student's training.
    pub student: PathBuf,
    /// The exported models.
    pub model: PathBuf,
}

impl Folders {
    /// The parts of `run`.
    pub fn of(run: &Path) -> Self {
        Self {
            run: run.to_owned(),
            teacher: run.join("teacher"),
            student: run.join("student"),
            model: run.join("model"),
        }
    }
}

/// What a distillation has to work with.
#[derive(Debug)]
pub struct Workshop<'a> {
    /// Runs the trainings.
    pub engine: &'a Engine,
    /// The data of the recipe.
    pub data: &'a dyn TaskData,
    /// Vocabulary and front-end of all trainings; absent, the first training settles them.
    pub settled: Option<Settled>,
}

/// SHA-256 of a recipe with all its defaults.
///
/// # Errors
/// [`ErrorKind::Recipe`] for a value that TOML cannot hold.
pub fn recipe_hash(recipe: &Recipe) -> Result<String> {
    Ok(hex(&Sha256::digest(recipe.to_toml()?.as_bytes())))
}

/// Reads a JSON file of ours; None where it is not there or not whole.
fn known<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn note<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::io(path, std::io::Error::other(error)))?;
    write_atomically(path, &text)
}

impl Workshop<'_> {
    /// Trains `recipe` in `folder`, or the rest of it, or nothing where it is finished.
    ///
    /// # Errors
    /// What training reports; [`ErrorKind::Checkpoint`] where the folder is of another recipe.
    pub fn train(
        &self,
        recipe: &Recipe,
        folder: &Path,
        settled: Option<Settled>,
        supervision: Option<Arc<dyn Supervision>>,
        observer: &mut dyn Observer,
    ) -> Result<Finished> {
        let hash = recipe_hash(recipe)?;
        let path = folder.join("finished.json");
        if let Some(done) = known::<Finished>(&path).filter(|done| done.recipe == hash) {
            return Ok(done);
        }
        let sitting = Sitting {
            resume: true,
            settled,
            supervision,
            ..Sitting::default()
        };
        let data = self.data.under(recipe);
        run_on(self.engine, recipe, &*data, folder, &sitting, observer)?;
        let best = Checkpoint::load(&best_path(folder))?.position;
        let last = Checkpoint::load(&crate::train::run::checkpoint_path(folder))?.position;
        let finished = Finished {
            recipe: hash,
            seconds: last.processor_seconds,
            steps: last.step,
            best_seconds: best.processor_seconds,
            best_steps: best.step,
            best_wer: best.best,
        };
        note(&path, &finished)?;
        Ok(finished)
    }

    /// Training utterances to try a teacher on: evenly spaced, as they are.
    ///
    /// # Errors
    /// What loading reports.
    pub fn probes(&self, settled: &Settled, most: usize) -> Result<Vec<Question>> {
        let examples = self.data.plain(settled)?;
        let count = examples.len();
        let taken = most.min(count);
        let items = (0..taken).map(|index| index * count / taken.max(1));
        keep::questions(&*examples, items)
    }

    /// Checks the teacher in `folder`, against one of another seed where there is one; the findings stand in
    /// `guards.json`. Whether it may guide is for [`Findings::admit`] to say.
    ///
    /// # Errors
    /// What opening and asking report.
    pub fn check(
        &self,
        folder: &Path,
        config: &GuardConfig,
        other: Option<&Path>,
    ) -> Result<Findings> {
        let extras = Extras {
            hidden: false,
            attention: true,
        };
        let mut teacher = Teacher::open(self.engine, folder, extras)?;
        let mut second = match other {
            Some(other) => Some(Teacher::open(self.engine, other, Extras::default())?),
            None => None,
        };
        let about = format!(
            "{} {} {config:?}",
            teacher.identity(),
            second.as_ref().map_or("", Teacher::identity)
        );
        let about = hex(&Sha256::digest(about.as_bytes()));
        let path = folder.join("guards.json");
        if let Some(done) = known::<Checked>(&path).filter(|done| done.about == about) {
            return Ok(done.findings);
        }
        let probes = self.probes(teacher.settled(), config.utterances)?;
        let mut findings = examine(&mut teacher, &probes, config)?;
        if let Some(second) = &mut second {
            findings.compare(&mut teacher, second, &probes, config)?;
        }
        let checked = Checked { about, findings };
        note(&path, &checked)?;
        Ok(checked.findings)
    }

    /// Distils a student in `folder` from the teacher in `teacher`; guidance is kept in `kept`.
    ///
    /// # Errors
    /// [`ErrorKind::Recipe`] where the recipe distils nothing; what guidance and training report.
    pub fn student(
        &self,
        recipe: &Recipe,
        folder: &Path,
        teacher: Option<&Path>,
        kept: &Path,
        observer: &mut dyn Observer,
    ) -> Result<Finished> {
        let hash = recipe_hash(recipe)?;
        let done = known::<Finished>(&folder.join("finished.json"));
        if let Some(done) = done.filter(|done| done.recipe == hash) {
            return Ok(done);
        }
        let config = recipe.distill.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Recipe,
                "the recipe has no section [distill]: `acolyte-train train` trains it alone",
            )
        })?;
        let ahead = recipe.model.look_ahead();
        let mut settled = self.settled.clone();
        let mut guide = None;
        if let (Some(teacher), true) = (teacher, config.wants_teacher()) {
            settled = Some(Settled::load(teacher)?);
            guide = Some(prepare(
                self.engine,
                teacher,
                self.data,
                config,
                ahead,
                kept,
            )?);
        }
        let distillation = Distillation::new(config, guide, ahead)?;
        self.train(
            recipe,
            folder,
            settled,
            Some(Arc::new(distillation)),
            observer,
        )
    }
}

/// Findings and what they are about.
#[derive(Debug, Serialize, Deserialize)]
struct Checked {
    /// SHA-256 over teachers and thresholds.
    about: String,
    findings: Findings,
}

/// What a whole distillation gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distilled {
    /// The teacher's training, where this run trained one.
    pub teacher: Option<Finished>,
    /// What the checks found of it.
    pub findings: Option<Findings>,
    /// The student's training.
    pub student: Finished,
    /// The exported student's hash.
    pub sha256: String,
    /// Largest difference in logits of the exported student, through the runtime, from the trained one.
    pub difference: f32,
}

/// Which stage begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Training the teacher.
    Teacher,
    /// Telling whether it listens.
    Check,
    /// Distilling the student.
    Student,
    /// Exporting and verifying.
    Export,
    /// Writing the report.
    Report,
}

/// Runs every stage of `recipe` in `run`; `ready` is a teacher that was trained before. Each stage is announced, and
/// watched by an observer of its own.
///
/// # Errors
/// What the stages report; [`ErrorKind::Copies`] for a teacher that may not guide.
pub fn distill<'o>(
    library: &Library,
    workshop: &Workshop<'_>,
    recipe: &Recipe,
    run: &Path,
    ready: Option<&Path>,
    announce: &mut dyn FnMut(Stage) -> Box<dyn Observer + 'o>,
) -> Result<Distilled> {
    let folders = Folders::of(run);
    std::fs::create_dir_all(run).map_err(|error| Error::io(run, error))?;
    write_atomically(&run.join("recipe.toml"), recipe.to_toml()?.as_bytes())?;
    let mut trained = None;
    let mut findings = None;
    let mut teacher = None;
    if let Some(own) = recipe.teacher_recipe() {
        let folder = ready.unwrap_or(&folders.teacher);
        if ready.is_none() {
            let mut observer = announce(Stage::Teacher);
            let settled = workshop.settled.clone();
            trained = Some(workshop.train(&own, folder, settled, None, &mut *observer)?);
        }
        announce(Stage::Check);
        let guards = recipe.teacher.as_ref().map(|teacher| &teacher.guards);
        let guards = guards.cloned().unwrap_or_default();
        let found = workshop.check(folder, &guards, None)?;
        found.admit()?;
        findings = Some(found);
        teacher = Some(folder);
    }
    let mut observer = announce(Stage::Student);
    let student = workshop.student(
        recipe,
        &folders.student,
        teacher,
        &run.join("kept"),
        &mut *observer,
    )?;
    announce(Stage::Export);
    let exported = export(
        library,
        &folders.student,
        &folders.model,
        &ExportOptions::default(),
    )?;
    if let (Some(teacher), Some(own)) = (teacher, recipe.teacher_recipe()) {
        export_teacher(library, teacher, &own, &folders)?;
    }
    announce(Stage::Report);
    let distilled = Distilled {
        teacher: trained,
        findings,
        student,
        sha256: exported.sha256,
        difference: exported.difference,
    };
    note(&run.join("distilled.json"), &distilled)?;
    let pages = super::report::Page {
        workshop,
        recipe,
        teacher,
        student: &folders.student,
        distilled: &distilled,
    };
    let path = run.join("report.html");
    write_atomically(&path, pages.html()?.as_bytes())?;
    Ok(distilled)
}

/// The teacher as a file beside the student's: `oracle.onnx` or `conventional.onnx`.
fn export_teacher(
    library: &Library,
    teacher: &Path,
    recipe: &Recipe,
    folders: &Folders,
) -> Result<Exported> {
    let own = folders.run.join("teacher-model");
    let halves = ExportOptions {
        storage: Storage::F16,
        ..Default::default()
    };
    let exported = export(library, teacher, &own, &halves)?;
    let name = match recipe.target {
        Some(_) => "oracle.onnx",
        None => "conventional.onnx",
    };
    let from = own.join("model.onnx");
    let to = folders.model.join(name);
    std::fs::copy(&from, &to).map_err(|error| Error::io(&to, error))?;
    Ok(exported)
}

//! Recipes: everything that decides a training run, as one TOML file.
//!
//! A recipe is read by [`Recipe::load`], which refuses unknown keys, applies `key.path=value` overrides and
//! checks every value's range, so that a run either starts with exactly what the file says or not at all.
//! Every field has a documented default; only the name, the licence and the training manifests must be given.

mod augment;
mod data;
mod distill;
mod overrides;
mod start;
mod synth;
mod teacher;
mod train;

pub use augment::{
    AugmentConfig, BabbleConfig, NoiseConfig, ReverbConfig, ShiftConfig, SpecAugmentConfig,
};
pub use data::{
    BadRows, Case, DataConfig, DevSet, FeaturesConfig, NormalizationKind, TextConfig, TrainSet,
};
pub use distill::{
    DistillConfig, FrameSelection, GuideKind, GuideView, ObjectiveConfig, ObjectiveKind,
};
pub use start::StartConfig;
pub(crate) use start::begins;
pub use synth::{EffectsConfig, ImageConfig, SynthConfig};
pub use teacher::{GuardConfig, SourcePositions, TargetConfig, TeacherConfig};
pub use train::{
    AverageConfig, AverageOf, Context, ImageModelConfig, JudgeBy, ModelConfig, ModelKind,
    Optimizer, Schedule, TrainConfig,
};

use crate::error::{Error, ErrorKind, Result};
use crate::train::checkpoint::hex;
use acolyte::spec::Task;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// The largest recipe file read, in bytes.
const MAX_RECIPE_BYTES: u64 = 4 << 20;

/// A whole recipe: data, text, features, model, augmentation and training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The model's name; it goes into the exported spec.
    pub name: String,
    /// What the model recognizes.
    pub task: Task,
    /// Seed of every random choice: initialization, order, augmentation. Default 1.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// SPDX expression of the trained model's licence.
    pub license: String,
    /// The sets.
    pub data: DataConfig,
    /// Transcripts and tokens.
    #[serde(default)]
    pub text: TextConfig,
    /// Audio to features.
    #[serde(default)]
    pub features: FeaturesConfig,
    /// Images to lines.
    #[serde(default)]
    pub image: ImageConfig,
    /// Rendered words.
    #[serde(default)]
    pub synth: SynthConfig,
    /// The student.
    #[serde(default)]
    pub model: ModelConfig,
    /// Random changes of the training data.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// The optimization.
    #[serde(default)]
    pub train: TrainConfig,
    /// Weights to start from instead of random ones. Absent: random ones.
    #[serde(default)]
    pub start_from: Option<StartConfig>,
    /// Where the model is an Oracle Teacher: the side that reads the transcript; [model] is then its source encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetConfig>,
    /// Whether the model is a teacher, which guides students, and not a student itself. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guide: bool,
    /// The teacher that a distillation trains first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherConfig>,
    /// What the student learns from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<DistillConfig>,
}

fn default_seed() -> u64 {
    1
}

impl Recipe {
    /// Reads the recipe at `path` and applies `overrides`, each `key.path=value`.
    ///
    /// # Errors
    /// `Io` if the file cannot be read; `Recipe`, naming the file and the key, for TOML that does not parse,
    /// an unknown or missing key, a value of the wrong type or out of range.
    pub fn load(path: impl AsRef<Path>, overrides: &[impl AsRef<str>]) -> Result<Self> {
        let path = path.as_ref();
        let size = std::fs::metadata(path)
            .map_err(|e| Error::io(path, e))?
            .len();
        if size > MAX_RECIPE_BYTES {
            return Err(recipe_error(format!(
                "a recipe of {size} bytes; expected at most {MAX_RECIPE_BYTES}"
            ))
            .with_path(path));
        }
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        Self::parse(&text, overrides).map_err(|e| e.with_path(path))
    }

    /// Reads a recipe from TOML text and applies `overrides`, each `key.path=value`.
    ///
    /// # Errors
    /// `Recipe`, naming the key; see [`load`](Self::load).
    pub fn parse(text: &str, overrides: &[impl AsRef<str>]) -> Result<Self> {
        let recipe = if overrides.is_empty() {
            toml::from_str(text).map_err(toml_error)?
        } else {
            let mut table: toml::Table = toml::from_str(text).map_err(toml_error)?;
            for assignment in overrides {
                overrides::apply(&mut table, assignment.as_ref())?;
            }
            match table.try_into::<Self>() {
                Ok(recipe) => recipe,
                // The file's own faults are reported with their line, which the merged table no longer knows.
                Err(merged) => match toml::from_str::<Self>(text) {
                    Err(own) => return Err(toml_error(own)),
                    Ok(_) => {
                        return Err(recipe_error(format!(
                            "after the overrides: {}",
                            merged.to_string().trim_end()
                        )));
                    }
                },
            }
        };
        recipe.validate()?;
        Ok(recipe)
    }

    /// A hash of all that a run must not change under way: everything but its [`end`](Self::end), so that a run can be
    /// given more epochs or a nearer end.
    ///
    /// # Errors
    /// As [`to_toml`](Self::to_toml).
    pub fn identity(&self) -> Result<String> {
        let mut recipe = self.clone();
        let usual = TrainConfig::default();
        (recipe.train.epochs, recipe.train.max_minutes) = (usual.epochs, usual.max_minutes);
        Ok(hex(&Sha256::digest(recipe.to_toml()?.as_bytes())))
    }

    /// Where a run of the recipe ends, in words.
    pub fn end(&self) -> String {
        let epochs = format!("{} epochs", self.train.epochs);
        match self.train.max_minutes {
            None => epochs,
            Some(minutes) => format!("{epochs}, {minutes} minutes"),
        }
    }

    /// Writes the recipe, with all defaults spelled out, as TOML.
    ///
    /// # Errors
    /// `Recipe` for a value that TOML cannot hold (a seed above 2^63).
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| recipe_error(format!("not expressible as TOML: {e}")).with_source(e))
    }

    /// Checks every value's range.
    ///
    /// # Errors
    /// `Recipe`, naming the key, what was found and what is expected.
    pub fn validate(&self) -> Result<()> {
        ensure(!self.name.trim().is_empty(), "name", "empty", "a name")?;
        ensure(
            !self.license.trim().is_empty(),
            "license",
            "empty",
            "an SPDX expression",
        )?;
        ensure(
            self.seed <= i64::MAX as u64,
            "seed",
            self.seed,
            "at most 2^63 - 1",
        )?;
        let pictures = self.synth.per_epoch > 0 || !self.data.shards.is_empty();
        self.data.validate(pictures)?;
        self.text.validate()?;
        self.features.validate()?;
        self.image.validate()?;
        self.synth.validate()?;
        let image = self.task == Task::SceneText;
        ensure(
            image == (self.model.kind == ModelKind::Image),
            "model.kind",
            format!("{:?}, the task {:?}", self.model.kind, self.task),
            "\"image\" for scene-text, \"conv\" or \"jasper-mini\" for speech",
        )?;
        ensure(
            image || !pictures,
            "task",
            "speech",
            "scene-text where there are data.shards or synth.per_epoch",
        )?;
        self.model.validate()?;
        self.augment.validate()?;
        self.train.validate()?;
        for (key, asked) in [
            ("train.patience", self.train.patience.is_some()),
            ("train.average", self.train.average.is_some()),
        ] {
            ensure(
                !asked || !self.data.dev.is_empty(),
                key,
                "set without data.dev",
                "at least one development set to judge by, or no such key",
            )?;
        }
        if let Some(start) = &self.start_from {
            start.validate()?;
        }
        if let Some(target) = &self.target {
            target.validate(&self.model)?;
        }
        if let Some(teacher) = &self.teacher {
            teacher.validate(&self.model)?;
        }
        match &self.distill {
            Some(distill) => distill.validate(self),
            None => Ok(()),
        }
    }
}

fn recipe_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Recipe, message)
}

fn toml_error(error: toml::de::Error) -> Error {
    recipe_error(error.to_string().trim_end()).with_source(error)
}

/// Refuses a value out of range, in one form for all sections.
fn ensure(holds: bool, key: &str, found: impl std::fmt::Display, expected: &str) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(recipe_error(format!(
            "`{key}` is {found}; expected {expected}"
        )))
    }
}

/// Refuses a number outside `range` or not finite.
fn ensure_within(key: &str, value: f32, range: std::ops::RangeInclusive<f32>) -> Result<()> {
    ensure(
        value.is_finite() && range.contains(&value),
        key,
        value,
        &format!("a number from {} to {}", range.start(), range.end()),
    )
}

/// Refuses an interval that is reversed or leaves `range`.
fn ensure_interval(
    key: &str,
    [low, high]: [f32; 2],
    range: std::ops::RangeInclusive<f32>,
) -> Result<()> {
    ensure(
        low <= high && range.contains(&low) && range.contains(&high),
        key,
        format!("[{low}, {high}]"),
        &format!(
            "[low, high] with low <= high, both from {} to {}",
            range.start(),
            range.end()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINIMAL: &str = r#"
name = "toy"
task = "speech"
license = "MIT"
[data]
train = [{ manifest = "a/train.jsonl" }]
"#;

    const NONE: &[&str] = &[];

    #[test]
    fn a_minimal_recipe_has_the_documented_defaults() {
        let recipe = Recipe::parse(MINIMAL, NONE).unwrap();
        assert_eq!(recipe.seed, 1);
        assert_eq!(recipe.data.train[0].repeat, 1.0);
        assert_eq!(recipe.data.max_seconds, 16.7);
        assert_eq!(recipe.features, FeaturesConfig::default());
        assert_eq!(recipe.augment, AugmentConfig::default());
        assert!(recipe.augment.is_off());
    }

    #[test]
    fn a_written_recipe_reads_back_equal() {
        let recipe = Recipe::parse(
            MINIMAL,
            &[
                "augment.spec_augment.time_masks=3",
                "augment.noise.probability=0.25",
                "train.max_minutes=90",
                "train.average={ epochs = 3, of = \"best\" }",
                "data.dev=[{ name = \"d\", manifest = \"d.jsonl\" }]",
                "start_from={ model = \"models/x\", freeze = [\"stem\"] }",
            ],
        )
        .unwrap();
        let again = Recipe::parse(&recipe.to_toml().unwrap(), NONE).unwrap();
        assert_eq!(again, recipe);
    }

    #[test]
    fn faults_name_the_key() {
        let cases: &[(&str, &[&str], &str)] = &[
            ("frobnicate = 1\n", &[], "frobnicate"),
            ("", &["train.learning_rat=1"], "learning_rat"),
            ("", &["augment.noise.snr=[1, 2]"], "snr"),
            ("", &["data.train.0.repeats=2"], "repeats"),
            ("", &["data.train.7.repeat=2"], "data.train.7"),
            ("", &["train.epochs=many"], "many"),
            ("", &["train.epochs"], "train.epochs"),
            ("", &["=3"], "=3"),
            ("", &["name.first=x"], "name.first"),
            ("", &["train.learning_rate=-1"], "train.learning_rate"),
            ("", &["train.learning_rate=nan"], "train.learning_rate"),
            ("", &["augment.speed=[1.2, 0.9]"], "augment.speed"),
            (
                "",
                &["augment.noise.probability=1.5"],
                "augment.noise.probability",
            ),
            ("", &["features.mels=0"], "mels"),
            ("", &["features.high_hz=9000"], "high_hz"),
            ("", &["data.train=[]"], "data.train"),
            ("", &["data.train.0.repeat=-1"], "data.train[0].repeat"),
            ("", &["text.tokens=[\"a\", \"a\"]"], "text.tokens"),
            ("", &["train.optimizer=sgd"], "sgd"),
            ("", &["train.accumulate=0"], "train.accumulate"),
            ("", &["train.bad_batches=0"], "train.bad_batches"),
            ("", &["train.patience=3"], "data.dev"),
            ("", &["train.average.epochs=1"], "train.average.epochs"),
            ("", &["train.average.over=2"], "over"),
            ("", &["start_from.model="], "start_from.model"),
            ("", &["start_from.freeze=[\"stem\"]"], "model"),
            ("", &["task=smell"], "smell"),
        ];
        for (prefix, overrides, key) in cases {
            let error = Recipe::parse(&format!("{prefix}{MINIMAL}"), overrides).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Recipe);
            assert!(error.to_string().contains(key), "{key}: {error}");
        }
    }

    /// All keys of a table, those of tables and arrays within it included.
    fn keys(value: &toml::Value) -> Vec<String> {
        match value {
            toml::Value::Table(table) => table
                .iter()
                .flat_map(|(key, value)| [vec![key.clone()], keys(value)].concat())
                .collect(),
            toml::Value::Array(items) => items.iter().flat_map(keys).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_key_is_in_the_documentation() {
        let alone = [
            "augment={ speed = [1, 1], gain_db = [0, 0], shift = {}, reverb = {}, noise = {}, babble = {}, \
             spec_augment = {} }",
            "data.dev=[{ name = \"d\", manifest = \"d.jsonl\" }]",
            "train={ max_minutes = 1, betas = [0.9, 0.9], weight_decay = 0.1, patience = 1, average = {} }",
            "start_from={ model = \"m\" }",
        ];
        let distilled = [
            "model.context=causal",
            "teacher={ seed = 2, target = {}, augment = {} }",
            "distill={ delay_frames = 1, objectives = [{ kind = \"kl\", layer = 1, final_weight = 0 }] }",
        ];
        let alone = Recipe::parse(MINIMAL, &alone).unwrap();
        let distilled = Recipe::parse(MINIMAL, &distilled).unwrap();
        let teacher = distilled.teacher_recipe().unwrap();
        let tables = [alone, distilled, teacher].map(|recipe| {
            let text = recipe.to_toml().unwrap();
            toml::from_str::<toml::Value>(&text).unwrap()
        });
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let pages: String = std::fs::read_dir(docs)
            .unwrap()
            .map(|page| std::fs::read_to_string(page.unwrap().path()).unwrap_or_default())
            .collect();
        let words: std::collections::BTreeSet<&str> = pages
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .collect();
        let found: Vec<String> = tables.iter().flat_map(keys).collect();
        assert!(found.len() > 70, "{found:?}");
        for key in found {
            assert!(words.contains(key.as_str()), "{key} is in no page of docs/");
        }
    }

    #[test]
    fn an_optimizer_brings_its_own_constants() {
        let constants = |overrides: &[&str]| {
            let train = Recipe::parse(MINIMAL, overrides).unwrap().train;
            (train.moment_decays(), train.weight_decay_rate())
        };
        assert_eq!(constants(NONE), ([0.9, 0.98], 0.01));
        // The spelling of recipes that were written before `adamw` was.
        assert_eq!(constants(&["train.optimizer=adam-w"]), ([0.9, 0.98], 0.01));
        assert_eq!(
            constants(&["train.optimizer=novograd"]),
            ([0.95, 0.5], 0.001)
        );
        let own = ["train.optimizer=novograd", "train.betas=[0.8, 0.6]"];
        assert_eq!(constants(&own), ([0.8, 0.6], 0.001));
    }

    #[test]
    fn the_recipes_of_the_repository_are_sound() {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        for name in ["speech-tiny.toml", "jasper-mini.toml"] {
            let recipe = Recipe::load(recipes.join(name), NONE).unwrap();
            let teacher = recipe.teacher_recipe().unwrap();
            teacher.validate().unwrap();
            assert!(teacher.target.is_some() && teacher.guide, "{name}");
            assert!(recipe.distill.unwrap().wants_teacher(), "{name}");
        }
    }

    #[test]
    fn sections_that_do_not_go_together_are_refused() {
        let cases: &[(&[&str], &str)] = &[
            (&["distill={}"], "[teacher]"),
            (
                &["distill={ objectives = [] }", "distill.ctc=-1"],
                "distill.ctc",
            ),
            (
                &["teacher={}", "distill={}", "augment={ speed = [0.9, 1.1] }"],
                "augment",
            ),
            (
                &["teacher={}", "distill={ delay_frames = 11 }"],
                "distill.delay_frames",
            ),
            (
                &[
                    "teacher={}",
                    "distill={ objectives = [{ kind = \"kl\", layer = 99 }] }",
                ],
                "objectives[0].layer",
            ),
            (
                &["distill={ objectives = [{ kind = \"intermediate-ctc\" }] }"],
                "objectives[0].layer",
            ),
            (&["teacher={ model = { stride = 4 } }"], "teacher.model"),
            (&["teacher={ target = { heads = 7 } }"], "target.heads"),
            (&["target={}"], "symmetric"),
            (&["model={ context = \"symmetric\" }"], "model.delay_frames"),
            (&["model={ kind = \"jasper-mini\" }"], "model.context"),
            (
                &[
                    "task=scene-text",
                    "model={ kind = \"image\" }",
                    "data.train=[]",
                    "data.shards=[\"words\"]",
                    "teacher={ model = { context = \"symmetric\", delay_frames = 0 } }",
                ],
                "teacher.model.kind",
            ),
        ];
        for (overrides, key) in cases {
            let error = Recipe::parse(MINIMAL, overrides).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Recipe);
            assert!(error.to_string().contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn a_teachers_recipe_reads_back_equal() {
        let recipe = Recipe::parse(
            MINIMAL,
            &["teacher={ seed = 9, target = {} }", "distill={}"],
        );
        let recipe = recipe.unwrap();
        for recipe in [recipe.teacher_recipe().unwrap(), recipe] {
            let again = Recipe::parse(&recipe.to_toml().unwrap(), NONE).unwrap();
            assert_eq!(again, recipe);
        }
    }

    #[test]
    fn a_missing_key_and_a_missing_file_are_named() {
        let error = Recipe::parse("task = \"speech\"", NONE).unwrap_err();
        assert!(error.to_string().contains("name"), "{error}");
        let error = Recipe::load("no/such/recipe.toml", NONE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("no/such/recipe.toml"));
    }

    #[test]
    fn a_loaded_recipe_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.toml");
        std::fs::write(&path, format!("wrong = 1\n{MINIMAL}")).unwrap();
        let error = Recipe::load(&path, NONE).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("r.toml") && text.contains("wrong") && text.contains("line 1"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn any_text_and_override_is_read_or_refused(text in "\\PC{0,200}", set in "\\PC{0,60}") {
            let _ = Recipe::parse(&text, &[&set]);
            let _ = Recipe::parse(MINIMAL, &[&set]);
        }

        #[test]
        fn any_path_with_any_value_is_read_or_refused(
            path in "(data|train|text|augment|features)(\\.[a-z0-9_]{1,12}){0,4}",
            value in "[0-9a-z\\[\\]{}\"=., -]{0,20}",
        ) {
            let _ = Recipe::parse(MINIMAL, &[format!("{path}={value}")]);
        }
    }
}

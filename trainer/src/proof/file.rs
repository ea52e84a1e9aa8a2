//! Proof files: one recipe, the arms as what each changes in it, seeds, and how speakers are parted.

use crate::config::Recipe;
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest proof file read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A proof as its file says it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofFile {
    /// The regime's name in results.
    pub regime: String,
    /// Seeds of the students.
    pub seeds: Vec<u64>,
    /// Which speakers train, select and test.
    pub split: Split,
    /// The recipe of the student alone; `data.train` and `data.dev` are filled in from the split.
    pub base: toml::Table,
    /// The arms, by name.
    pub arm: BTreeMap<String, Arm>,
}

/// What an arm is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Group {
    /// A row of the main table: the symmetric student.
    Rows,
    /// The causal student.
    Causal,
    /// A teacher with less training.
    Budget,
    /// One thing changed.
    Ablation,
}

/// A way of training the student.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Whether it runs without `--full`.
    #[serde(default)]
    pub core: bool,
    /// Which table it stands in. Default the main one.
    #[serde(default = "rows")]
    pub group: Group,
    /// What it changes in the recipe: tables are merged, values replaced.
    #[serde(default)]
    pub set: toml::Table,
    /// Another arm, whose teacher this arm's must agree with about where symbols stand.
    #[serde(default)]
    pub agrees_with: Option<String>,
}

fn rows() -> Group {
    Group::Rows
}

/// Which speakers train, select the checkpoint, and test. Speakers are ordered by a hash of their names.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
#[non_exhaustive]
pub enum Split {
    /// Every speaker is tested once, in one of `folds` parts of about equally many words.
    Folds {
        /// Manifests with all speakers.
        pool: Vec<PathBuf>,
        /// Number of folds.
        folds: usize,
        /// Training speakers of each fold that select the checkpoint and do not train.
        held_out: usize,
    },
    /// One fixed test part.
    Fixed {
        /// Manifests to train on.
        pool: Vec<PathBuf>,
        /// Manifests that are tested whole.
        test: Vec<PathBuf>,
        /// Speakers of the pool that are tested instead of trained on.
        test_part: Vec<TestPart>,
        /// Training speakers that select the checkpoint and do not train.
        held_out: usize,
    },
}

/// Speakers of one manifest of the pool that are tested.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestPart {
    /// The manifest.
    pub manifest: PathBuf,
    /// How many of its speakers.
    pub speakers: usize,
}

impl Split {
    /// Number of folds.
    pub fn folds(&self) -> usize {
        match self {
            Self::Folds { folds, .. } => *folds,
            Self::Fixed { .. } => 1,
        }
    }
}

impl ProofFile {
    /// Reads the file at `path` and checks that every arm is a recipe.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Recipe`], naming the arm.
    pub fn load(path: &Path) -> Result<Self> {
        let size = std::fs::metadata(path)
            .map_err(|error| Error::io(path, error))?
            .len();
        if size > MAX_BYTES {
            return Err(Error::new(
                ErrorKind::Recipe,
                format!("a proof file of {size} bytes; expected at most {MAX_BYTES}"),
            )
            .with_path(path));
        }
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        Self::parse(&text).map_err(|error| error.with_path(path))
    }

    /// Reads a proof from TOML text.
    ///
    /// # Errors
    /// [`ErrorKind::Recipe`], naming the arm.
    pub fn parse(text: &str) -> Result<Self> {
        let file: Self = toml::from_str(text).map_err(|error| {
            Error::new(ErrorKind::Recipe, error.to_string().trim_end().to_owned())
        })?;
        let refuse = |what: &str| Err(Error::new(ErrorKind::Recipe, what));
        if file.seeds.is_empty() || file.arm.is_empty() {
            return refuse("`seeds` or `arm` is empty; expected at least one of each");
        }
        if !(1..=64).contains(&file.split.folds()) {
            return refuse("`split.folds` is not within 1 to 64");
        }
        for (name, arm) in &file.arm {
            file.recipe(name, file.seeds[0])?;
            if let Some(other) = &arm.agrees_with
                && file
                    .recipe(other, file.seeds[0])?
                    .teacher_recipe()
                    .is_none()
            {
                return Err(Error::new(
                    ErrorKind::Recipe,
                    format!("arm {name}: `agrees_with` names {other:?}, which has no teacher"),
                ));
            }
        }
        Ok(file)
    }

    /// The recipe of an arm under a student's seed; its manifests are `train.jsonl` and `dev.jsonl`.
    ///
    /// # Errors
    /// [`ErrorKind::Recipe`], naming the arm.
    pub fn recipe(&self, arm: &str, seed: u64) -> Result<Recipe> {
        let fail = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Recipe, format!("arm {arm}: {error}"))
        };
        let own = self
            .arm
            .get(arm)
            .ok_or_else(|| fail(&"there is none of that name"))?;
        let mut table = self.base.clone();
        merge(&mut table, &own.set);
        let seed = i64::try_from(seed).map_err(|error| fail(&error))?;
        table.insert("seed".to_owned(), toml::Value::Integer(seed));
        let data = table
            .entry("data")
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let toml::Value::Table(data) = data {
            let sets: toml::Table = toml::from_str(
                "train = [{ manifest = \"train.jsonl\" }]\n\
                 dev = [{ name = \"held-out\", manifest = \"dev.jsonl\" }]\n",
            )
            .map_err(|error| fail(&error))?;
            merge(data, &sets);
        }
        let text = toml::to_string(&table).map_err(|error| fail(&error))?;
        let none: [&str; 0] = [];
        Recipe::parse(&text, &none).map_err(|error| fail(&error))
    }
}

/// Puts the values of `changes` into `table`; tables are merged.
fn merge(table: &mut toml::Table, changes: &toml::Table) {
    for (key, value) in changes {
        match (table.get_mut(key), value) {
            (Some(toml::Value::Table(own)), toml::Value::Table(changes)) => merge(own, changes),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
regime = "toy"
seeds = [1, 2]
[split]
kind = "folds"
pool = ["all.jsonl"]
folds = 2
held_out = 1
[base]
name = "toy"
task = "speech"
license = "MIT"
[base.model]
context = "symmetric"
delay_frames = 0
[arm.alone]
core = true
[arm.oracle]
core = true
set.teacher.target = {}
set.distill = {}
[arm.causal]
group = "causal"
set.model = { context = "causal", delay_frames = 4 }
"#;

    #[test]
    fn arms_change_the_recipe_and_nothing_else() {
        let file = ProofFile::parse(FILE).unwrap();
        let alone = file.recipe("alone", 2).unwrap();
        assert_eq!((alone.seed, alone.distill.is_some()), (2, false));
        let oracle = file.recipe("oracle", 2).unwrap();
        assert!(oracle.teacher_recipe().unwrap().target.is_some());
        assert_eq!(oracle.model, alone.model);
        assert_eq!(file.recipe("causal", 1).unwrap().model.delay_frames, 4);
        assert_eq!(file.arm["causal"].group, Group::Causal);
    }

    #[test]
    fn the_teacher_does_not_depend_on_the_students_seed_where_it_has_one() {
        let text = FILE.replace(
            "set.teacher.target = {}",
            "set.teacher = { seed = 1, target = {} }",
        );
        let file = ProofFile::parse(&text).unwrap();
        let teacher = |seed| file.recipe("oracle", seed).unwrap().teacher_recipe();
        assert_eq!(teacher(1), teacher(2));
    }

    #[test]
    fn the_proofs_of_the_repository_are_sound() {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        for (name, regime) in [
            ("proof-an4.toml", "an4"),
            ("proof-librispeech.toml", "librispeech"),
        ] {
            let file = ProofFile::load(&recipes.join(name)).unwrap();
            assert_eq!(file.regime, regime);
            assert!(file.seeds.len() >= 3);
            let core: Vec<&str> = file
                .arm
                .iter()
                .filter(|(_, arm)| arm.core)
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(core, ["alone", "conventional", "occupancy", "oracle"]);
            let alone = file.recipe("alone", 1).unwrap();
            for (name, arm) in &file.arm {
                let recipe = file.recipe(name, 1).unwrap();
                // Every student of a table is the same and is trained alike.
                if arm.group != Group::Causal {
                    assert_eq!(recipe.model, alone.model, "{name}");
                }
                if name != "alone-long" {
                    assert_eq!(recipe.train, alone.train, "{name}");
                }
            }
            let teacher = |arm: &str| file.recipe(arm, 2).unwrap().teacher_recipe();
            assert_eq!(teacher("conventional"), teacher("occupancy"));
            assert_eq!(teacher("oracle"), teacher("oracle-cr-ctc"));
        }
    }

    #[test]
    fn a_wrong_arm_is_named() {
        let text = FILE.replace("delay_frames = 4", "delay_framse = 4");
        let error = ProofFile::parse(&text).unwrap_err();
        assert!(error.to_string().contains("arm causal"), "{error}");
        assert!(error.to_string().contains("delay_framse"), "{error}");
    }
}

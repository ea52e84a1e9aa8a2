//! What an adoption found, was given, assumed, missed and checked: one line each.

use std::fmt;

/// Where a fact about a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// The file says so, or a run showed it.
    Found,
    /// The user said so.
    Given,
    /// The convention is so; the file does not say.
    Assumed,
    /// Nobody said; recognition works without.
    Missing,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Found => "found",
            Self::Given => "given",
            Self::Assumed => "assumed",
            Self::Missing => "missing",
        })
    }
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where it comes from.
    pub standing: Standing,
    /// What it is about, as the spec calls it.
    pub what: String,
    /// What it is.
    pub value: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {:<14} {}", self.standing, self.what, self.value)
    }
}

/// All lines of an adoption, in the order in which they became known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The lines.
    pub notes: Vec<Note>,
}

impl Report {
    /// Adds a line.
    pub fn note(&mut self, standing: Standing, what: &str, value: impl fmt::Display) {
        self.notes.push(Note {
            standing,
            what: what.to_owned(),
            value: value.to_string(),
        });
    }

    pub(super) fn found(&mut self, what: &str, value: impl fmt::Display) {
        self.note(Standing::Found, what, value);
    }

    pub(super) fn assumed(&mut self, what: &str, value: impl fmt::Display) {
        self.note(Standing::Assumed, what, value);
    }

    /// The value that the user gave, else the one the file has, else the convention's, noted as what it is.
    pub(super) fn settle<T: fmt::Display>(
        &mut self,
        what: &str,
        given: Option<T>,
        found: Option<T>,
        assumed: T,
    ) -> (T, Standing) {
        let (value, standing) = match (given, found) {
            (Some(value), _) => (value, Standing::Given),
            (None, Some(value)) => (value, Standing::Found),
            (None, None) => (assumed, Standing::Assumed),
        };
        self.note(standing, what, &value);
        (value, standing)
    }

    /// What was last noted about `what`.
    pub fn about(&self, what: &str) -> Option<&Note> {
        self.notes.iter().rev().find(|note| note.what == what)
    }

    /// What stands so at the end, as one text for the spec.
    pub(super) fn summary(&self, standing: Standing) -> String {
        let last = |note: &&Note| self.about(&note.what) == Some(*note);
        let lines = self
            .notes
            .iter()
            .filter(|note| note.standing == standing)
            .filter(last);
        let lines: Vec<String> = lines
            .map(|note| format!("{}: {}", note.what, note.value))
            .collect();
        lines.join("; ")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

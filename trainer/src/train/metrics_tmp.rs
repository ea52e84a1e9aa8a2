//! Temporary.
#![allow(missing_docs)]
use serde::Serialize;
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ErrorCounts {
    pub substitutions: usize,
    pub deletions: usize,
    pub insertions: usize,
    pub reference: usize,
}
impl ErrorCounts {
    pub fn rate(&self) -> f64 {
        (self.substitutions + self.deletions + self.insertions) as f64
            / self.reference.max(1) as f64
    }
}
impl std::ops::AddAssign for ErrorCounts {
    fn add_assign(&mut self, o: Self) {
        self.substitutions += o.substitutions;
        self.deletions += o.deletions;
        self.insertions += o.insertions;
        self.reference += o.reference;
    }
}
fn edits<T: PartialEq>(a: &[T], b: &[T]) -> ErrorCounts {
    let mut p: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut c = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            c.push((p[j + 1] + 1).min(c[j] + 1).min(p[j] + usize::from(x != y)));
        }
        p = c;
    }
    ErrorCounts {
        substitutions: p[b.len()],
        reference: a.len(),
        ..Default::default()
    }
}
pub fn word_errors(a: &str, b: &str) -> ErrorCounts {
    edits(
        &a.split_whitespace().collect::<Vec<_>>(),
        &b.split_whitespace().collect::<Vec<_>>(),
    )
}
pub fn char_errors(a: &str, b: &str) -> ErrorCounts {
    edits(
        &a.chars().collect::<Vec<_>>(),
        &b.chars().collect::<Vec<_>>(),
    )
}

//! Reading order: words to lines, lines from top to bottom, words from left to right.

use crate::image::Quad;

/// Two words stand on one line where they overlap in height by this share of the lower one.
const OVERLAP: f32 = 0.5;

/// The words of every line, in reading order for scripts that run from left to right and down the page.
///
/// A word joins the line whose last word to its left overlaps it most in height. Columns of a page are not told apart:
/// their lines are read across.
pub fn lines(mut words: Vec<Quad>) -> Vec<Vec<Quad>> {
    words.sort_by(|a, b| a.bounds()[0].total_cmp(&b.bounds()[0]));
    let mut lines: Vec<Vec<Quad>> = Vec::new();
    for word in words {
        let overlap = |line: &Vec<Quad>| {
            let [_, top, _, bottom] = line.last().map_or([0.0; 4], Quad::bounds);
            let [_, own_top, _, own_bottom] = word.bounds();
            let shared = bottom.min(own_bottom) - top.max(own_top);
            shared
                / (bottom - top)
                    .min(own_bottom - own_top)
                    .max(f32::MIN_POSITIVE)
        };
        let best = (lines.iter_mut())
            .map(|line| (overlap(line), line))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match best {
            Some((shared, line)) if shared >= OVERLAP => line.push(word),
            _ => lines.push(vec![word]),
        }
    }
    let middle = |line: &Vec<Quad>| {
        let sum: f32 = line
            .iter()
            .map(|word| word.bounds()[1] + word.bounds()[3])
            .sum();
        sum / (2 * line.len().max(1)) as f32
    };
    lines.sort_by(|a, b| middle(a).total_cmp(&middle(b)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_across_and_down() {
        let word = |x: f32, y: f32| Quad::rectangle(x, y, 30.0, 10.0);
        let found = lines(vec![
            word(80.0, 22.0),
            word(0.0, 20.0),
            word(40.0, 3.0),
            word(0.0, 0.0),
            word(40.0, 21.0),
            word(80.0, 6.0),
        ]);
        let expected = vec![
            vec![word(0.0, 0.0), word(40.0, 3.0), word(80.0, 6.0)],
            vec![word(0.0, 20.0), word(40.0, 21.0), word(80.0, 22.0)],
        ];
        assert_eq!(found, expected);
        assert!(lines(Vec::new()).is_empty());
    }
}

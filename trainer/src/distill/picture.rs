//! Pictures of an utterance over time, as SVG: heat maps, and posteriors as lines.

use crate::report::svg::escape;
use ndarray::ArrayView2;
use std::fmt::Write;

/// Width of a picture.
const WIDTH: f32 = 900.0;

/// Height of one band.
const BAND: f32 = 110.0;

/// Room for a band's title.
const TITLE: f32 = 18.0;

/// Cells of a heat map along time and across: more could not be told apart.
const CELLS: [usize; 2] = [225, 40];

/// Shades of a heat map.
const SHADES: usize = 12;

/// Whose posteriors a line shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trace {
    Teacher,
    Student,
}

impl Trace {
    fn color(self) -> &'static str {
        match self {
            Self::Teacher => "#b3401b",
            Self::Student => "#1b5fb3",
        }
    }
}

/// Bands under one another over the same frames.
#[derive(Debug)]
pub(super) struct Picture {
    frames: usize,
    height: f32,
    body: String,
}

impl Picture {
    /// An empty picture of `frames` output frames.
    pub fn new(frames: usize) -> Self {
        Self {
            frames: frames.max(1),
            height: 0.0,
            body: String::new(),
        }
    }

    fn title(&mut self, text: &str) {
        // Writing to a String cannot fail.
        let _ = write!(
            self.body,
            "<text x=\"2\" y=\"{:.0}\" font-size=\"12\">{}</text>",
            self.height + 13.0,
            escape(text)
        );
        self.height += TITLE;
    }

    /// A heat map of `values [rows, columns]`, the first row at the bottom, or at the top where `downward`.
    pub fn heat(&mut self, title: &str, values: ArrayView2<'_, f32>, downward: bool) {
        self.title(title);
        let (rows, columns) = values.dim();
        if rows == 0 || columns == 0 {
            return;
        }
        let (across, down) = (columns.min(CELLS[0]), rows.min(CELLS[1]));
        let mean = |x: usize, y: usize| {
            let span = |cell: usize, cells: usize, length: usize| {
                let start = cell * length / cells;
                start..((cell + 1) * length).div_ceil(cells).max(start + 1)
            };
            let mut sum = (0.0f32, 0.0f32);
            for row in span(y, down, rows) {
                for column in span(x, across, columns) {
                    let value = values[[row, column]];
                    if value.is_finite() {
                        sum = (sum.0 + value, sum.1 + 1.0);
                    }
                }
            }
            sum.0 / sum.1.max(1.0)
        };
        let cells: Vec<Vec<f32>> = (0..down)
            .map(|y| (0..across).map(|x| mean(x, y)).collect())
            .collect();
        let all = || cells.iter().flatten().copied();
        let low = all().fold(f32::INFINITY, f32::min);
        let high = all().fold(f32::NEG_INFINITY, f32::max);
        let (width, height) = (WIDTH / across as f32, BAND / down as f32);
        for (y, line) in cells.iter().enumerate() {
            let place = if downward { y } else { down - 1 - y };
            let top = self.height + place as f32 * height;
            let shade = |value: f32| {
                let part = (value - low) / (high - low).max(1e-9);
                (part * (SHADES - 1) as f32).round() as usize
            };
            let mut start = 0;
            for x in 1..=across {
                // Equal neighbors are one rectangle.
                if x < across && shade(line[x]) == shade(line[start]) {
                    continue;
                }
                let gray = 255 - shade(line[start]) * 255 / (SHADES - 1);
                if gray < 255 {
                    let _ = write!(
                        self.body,
                        "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" \
                         fill=\"rgb({gray},{gray},{gray})\"/>",
                        start as f32 * width,
                        (x - start) as f32 * width
                    );
                }
                start = x;
            }
        }
        self.height += BAND;
    }

    /// The largest posterior that is no blank's in each frame, of log-posteriors `[T, V]`, blank first, and the
    /// symbols where it passes one half.
    pub fn traces(
        &mut self,
        title: &str,
        log_probs: ArrayView2<'_, f32>,
        pieces: &[String],
        trace: Trace,
    ) {
        self.title(title);
        let mut points = String::new();
        let mut labels = String::new();
        let mut last = 0;
        for (frame, row) in log_probs.outer_iter().enumerate() {
            let x = (frame as f32 + 0.5) * WIDTH / self.frames as f32;
            let (index, score) = crate::teacher::align::best(row.iter().skip(1).copied());
            let share = score.exp();
            let y = self.height + (1.0 - share) * (BAND - 14.0) + 14.0;
            let _ = write!(points, "{x:.1},{y:.1} ");
            let symbol = if share > 0.5 { index + 1 } else { 0 };
            if symbol != 0
                && symbol != last
                && let Some(piece) = pieces.get(symbol as usize)
            {
                let shown = if piece == " " { "\u{2423}" } else { piece };
                let _ = write!(
                    labels,
                    "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"11\" text-anchor=\"middle\">{}</text>",
                    self.height + 10.0,
                    escape(shown)
                );
            }
            last = symbol;
        }
        let _ = write!(
            self.body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.2\"/>{labels}",
            points.trim_end(),
            trace.color()
        );
        self.height += BAND;
    }

    /// The picture.
    pub fn svg(&self) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {:.0}\" font-family=\"sans-serif\">{}</svg>",
            self.height, self.body
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn a_picture_shows_its_bands_and_symbols() {
        let mut picture = Picture::new(30);
        let heat = Array2::from_shape_fn((80, 60), |(f, t)| (f * t) as f32);
        picture.heat("features", heat.view(), false);
        let scores = Array2::from_shape_fn((30, 3), |(t, v)| match (t, v) {
            (9..=11, 1) | (20, 2) => -0.1,
            (9..=11 | 20, 0) => -2.5,
            (_, 0) => -0.01,
            _ => -6.0,
        });
        let pieces = ["<blank>", "<", " "].map(String::from);
        picture.traces("teacher", scores.view(), &pieces, Trace::Teacher);
        let svg = picture.svg();
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert_eq!(svg.matches("&lt;</text>").count(), 1, "one label a run");
        assert_eq!(svg.matches('\u{2423}').count(), 1);
        assert!(svg.matches("<rect").count() > 40);
        assert!(svg.len() < 400_000);
    }

    #[test]
    fn nothing_and_nonsense_are_drawn_too() {
        let mut picture = Picture::new(0);
        picture.heat("none", Array2::zeros((0, 3)).view(), true);
        picture.heat("bad", Array2::from_elem((3, 3), f32::NAN).view(), true);
        picture.traces("none", Array2::zeros((0, 2)).view(), &[], Trace::Student);
        assert!(picture.svg().starts_with("<svg"));
    }
}

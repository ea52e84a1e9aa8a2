//! Line and point charts as SVG: enough for a page of documentation, nothing to install.

use std::fmt::Write;

/// Size of a chart, and of the space around what is drawn, in pixels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 52.0;

/// Told apart by people who see few colors (P. Tol's bright scheme).
const COLORS: [&str; 6] = [
    "#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee", "#777777",
];

/// How values lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Logarithmic,
}

#[derive(Debug, Clone)]
pub struct Axis {
    pub label: String,
    pub scale: Scale,
    pub low: f64,
    pub high: f64,
}

#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// What stands beside each point; may be shorter than the points.
    pub labels: Vec<String>,
    pub line: bool,
}

#[derive(Debug, Clone)]
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// A thin line from corner to corner: where both axes say the same.
    pub diagonal: bool,
}

impl Axis {
    pub fn new(label: &str, scale: Scale, low: f64, high: f64) -> Self {
        let label = label.to_owned();
        Self {
            label,
            scale,
            low,
            high,
        }
    }

    /// An axis on which all `values` have room.
    pub fn around(label: &str, scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let finite = values.filter(|v| v.is_finite() && (scale == Scale::Linear || *v > 0.0));
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(v), high.max(v))
        });
        let (low, high) = if low <= high { (low, high) } else { (1.0, 2.0) };
        match scale {
            Scale::Linear => {
                let room = ((high - low) * 0.08).max(1e-9);
                Self::new(label, scale, low - room, high + room)
            }
            Scale::Logarithmic => Self::new(label, scale, low / 1.3, high * 1.3),
        }
    }

    /// Where a value lies between the ends, in [0, 1].
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        place.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = nice((self.high - self.low) / 5.0);
                let first = (self.low / step).ceil() as i64;
                let last = (self.high / step).floor() as i64;
                (first..=last).map(|n| n as f64 * step).collect()
            }
            Scale::Logarithmic => {
                let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
                let all = decades.flat_map(|d| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(d)));
                let inside: Vec<f64> = all.filter(|t| (self.low..=self.high).contains(t)).collect();
                let tens: Vec<f64> = inside
                    .iter()
                    .copied()
                    .filter(|t| t.log10().fract().abs() < 1e-9)
                    .collect();
                if tens.len() >= 4 { tens } else { inside }
            }
        }
    }
}

/// The next larger number of the form 1, 2 or 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|m| m * power);
    steps.into_iter().find(|s| *s >= step).unwrap_or(step)
}

/// A number as short as it can be said.
fn short(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    format!("{}", rounded + 0.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

impl Chart {
    /// The chart as an SVG document.
    pub fn svg(&self) -> String {
        let across = |x: f64| LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT);
        let down = |y: f64| HEIGHT - BOTTOM - self.y.place(y) * (HEIGHT - TOP - BOTTOM);
        let mut lines = vec![
            format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
                 height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">"
            ),
            "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>".to_owned(),
            format!(
                "<text x=\"{}\" y=\"20\" text-anchor=\"middle\" font-size=\"14\">{}</text>",
                WIDTH / 2.0,
                escaped(&self.title)
            ),
        ];
        for tick in self.x.ticks() {
            let x = across(tick);
            lines.push(format!(
                "<path d=\"M{x:.1} {TOP}V{:.1}\" stroke=\"#dddddd\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0,
                short(tick)
            ));
        }
        for tick in self.y.ticks() {
            let y = down(tick);
            lines.push(format!(
                "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"#dddddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                short(tick)
            ));
        }
        lines.push(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 14.0,
            escaped(&self.x.label)
        ));
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        lines.push(format!(
            "<text x=\"16\" y=\"{middle:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {middle:.1})\">{}</text>",
            escaped(&self.y.label)
        ));
        if self.diagonal {
            let (low, high) = (self.x.low.max(self.y.low), self.x.high.min(self.y.high));
            lines.push(format!(
                "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"#999999\" stroke-dasharray=\"4 4\"/>",
                across(low),
                down(low),
                across(high),
                down(high)
            ));
        }
        for (number, series) in self.series.iter().enumerate() {
            let color = COLORS[number % COLORS.len()];
            let points: Vec<(f64, f64)> = series
                .points
                .iter()
                .map(|&(x, y)| (across(x), down(y)))
                .collect();
            if series.line {
                let mut path = String::new();
                for (at, (x, y)) in points.iter().enumerate() {
                    let command = if at == 0 { 'M' } else { 'L' };
                    // Writing to a string cannot fail.
                    let _ = write!(path, "{command}{x:.1} {y:.1}");
                }
                lines.push(format!(
                    "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"/>"
                ));
            }
            // A curve of many points needs no marks.
            if points.len() <= 40 {
                for (at, (x, y)) in points.iter().enumerate() {
                    lines.push(format!(
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{color}\"/>"
                    ));
                    if let Some(label) = series.labels.get(at) {
                        lines.push(format!(
                            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\">{}</text>",
                            x + 6.0,
                            y - 4.0,
                            escaped(label)
                        ));
                    }
                }
            }
            let y = TOP + 14.0 + 16.0 * number as f64;
            let x = WIDTH - RIGHT - 170.0;
            lines.push(format!(
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{color}\"/><text x=\"{:.1}\" \
                 y=\"{y:.1}\">{}</text>",
                y - 9.0,
                x + 16.0,
                escaped(&series.name)
            ));
        }
        lines.push("</svg>\n".to_owned());
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(Axis::new("", Scale::Linear, 0.0, 1.0).ticks().len(), 6);
        assert_eq!(
            Axis::new("", Scale::Linear, -3.0, 104.0).ticks(),
            [0.0, 50.0, 100.0]
        );
        assert_eq!(
            Axis::new("", Scale::Logarithmic, 0.03, 0.9).ticks(),
            [0.05, 0.1, 0.2, 0.5]
        );
        assert_eq!(short(-0.0), "0");
        assert_eq!(short(0.1 + 0.2), "0.3");
    }

    #[test]
    fn a_chart_holds_its_series_and_no_broken_text() {
        let chart = Chart {
            title: "a < b & c".into(),
            x: Axis::around("x", Scale::Logarithmic, [0.1, 10.0].into_iter()),
            y: Axis::around("y", Scale::Linear, [5.0, 5.0].into_iter()),
            series: vec![Series {
                name: "one".into(),
                points: vec![(0.1, 5.0), (10.0, 5.0)],
                labels: vec!["first".into()],
                line: true,
            }],
            diagonal: false,
        };
        let svg = chart.svg();
        assert!(
            svg.contains("a &lt; b &amp; c") && svg.contains(">first<") && svg.contains(">one<")
        );
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!svg.contains("NaN"), "{svg}");
    }
}

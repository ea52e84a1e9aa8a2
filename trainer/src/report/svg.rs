//! Charts as SVG text: curves and scattered points on linear or logarithmic axes, matrices as heat maps with curves and
//! marks over them.
//!
//! Coordinates are in user units, 720 wide, and scale with the page. Colors are Okabe and Ito's eight, which the
//! color-blind tell apart. What is not finite, or not positive on a logarithmic axis, is a gap.

pub use super::axis::{Axis, Scale, number};
use super::image::data_uri;
use crate::Result;
use ndarray::Array2;
use std::fmt::Write;

const COLORS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b8a000",
];

const WIDTH: f64 = 720.0;

/// Left, right and bottom margins of the plot; the top one depends on the legend.
const MARGINS: [f64; 3] = [64.0, 16.0, 44.0];

/// Width of a character of the legend, about.
const CHARACTER: f64 = 6.6;

/// `text` with the characters that mean something in HTML replaced.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Not allowed in XML, not even escaped.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Points with a name and a look.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Name in the legend; empty for none.
    pub name: String,
    /// The points, x and y.
    pub points: Vec<[f64; 2]>,
    /// Whether a line joins them.
    pub line: bool,
    /// Whether each is a dot.
    pub dots: bool,
    /// Texts beside the points, in their order; may be fewer.
    pub labels: Vec<String>,
}

impl Series {
    /// Points joined by a line.
    pub fn line(name: &str, points: Vec<[f64; 2]>) -> Self {
        Self {
            name: name.to_owned(),
            points,
            line: true,
            ..Self::default()
        }
    }

    /// Points as dots.
    pub fn dots(name: &str, points: Vec<[f64; 2]>) -> Self {
        Self {
            name: name.to_owned(),
            points,
            dots: true,
            ..Self::default()
        }
    }

    /// The series with dots on its line.
    #[must_use]
    pub fn with_dots(mut self) -> Self {
        self.dots = true;
        self
    }

    /// The series with texts beside its points.
    #[must_use]
    pub fn with_labels(mut self, labels: Vec<String>) -> Self {
        self.labels = labels;
        self
    }
}

/// A vertical line at x with a text at its top: a boundary, an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Where.
    pub x: f64,
    /// What; may be empty.
    pub text: String,
}

/// Series over two axes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// Title above the plot.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What is drawn, in order.
    pub series: Vec<Series>,
    /// Vertical lines.
    pub marks: Vec<Mark>,
}

impl Chart {
    /// A chart without series.
    pub fn new(title: &str, x: Axis, y: Axis) -> Self {
        Self {
            title: title.to_owned(),
            x,
            y,
            ..Self::default()
        }
    }

    /// The chart as an `<svg>` element.
    pub fn to_svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let seen =
            || points().filter(|[x, y]| self.x.place(*x).is_some() && self.y.place(*y).is_some());
        let plot = Plot {
            x: (&self.x, self.x.range(seen().map(|point| point[0]))),
            y: (
                &self.y,
                self.y.with_room(self.y.range(seen().map(|point| point[1]))),
            ),
            top: header_height(&self.series),
            height: 230.0,
        };
        let mut svg = plot.open(&self.title, &self.series, &COLORS);
        plot.axes(&mut svg, true);
        if seen().next().is_none() {
            text(
                &mut svg,
                WIDTH / 2.0,
                plot.top + plot.height / 2.0,
                "middle",
                "no data",
            );
        }
        plot.marks(&mut svg, &self.marks, "#888");
        for (index, series) in self.series.iter().enumerate() {
            plot.series(&mut svg, series, COLORS[index % COLORS.len()]);
        }
        svg.push_str("</svg>");
        svg
    }
}

/// A matrix as colors, with curves and marks over it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    /// Title above the plot.
    pub title: String,
    /// The horizontal axis, along the columns; linear.
    pub x: Axis,
    /// The vertical axis, along the rows, upwards; linear.
    pub y: Axis,
    /// `[rows, columns]`, the first row at the bottom.
    pub values: Array2<f32>,
    /// First and last edge of the columns and of the rows, in the axes' units.
    pub extent: [[f64; 2]; 2],
    /// Values of the darkest and the brightest color; the smallest and largest if absent.
    pub range: Option<[f32; 2]>,
    /// Curves over it: x in the axis' unit, y from 0 (bottom) to 1 (top).
    pub overlay: Vec<Series>,
    /// Vertical lines.
    pub marks: Vec<Mark>,
}

impl HeatMap {
    /// A matrix with its indices as coordinates.
    pub fn new(title: &str, x: Axis, y: Axis, values: Array2<f32>) -> Self {
        let (rows, columns) = values.dim();
        Self {
            title: title.to_owned(),
            x,
            y,
            extent: [[0.0, columns as f64], [0.0, rows as f64]],
            values,
            range: None,
            overlay: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// The heat map as an `<svg>` element.
    ///
    /// # Errors
    /// As [`data_uri`], for an empty matrix.
    pub fn to_svg(&self) -> Result<String> {
        let finite = || {
            self.values
                .iter()
                .copied()
                .filter(|value| value.is_finite())
        };
        let found = [
            finite().fold(f32::MAX, f32::min),
            finite().fold(f32::MIN, f32::max),
        ];
        let [low, high] = self.range.unwrap_or(if found[0] > found[1] {
            [0.0, 1.0]
        } else {
            found
        });
        let [x, y] = [Axis::new(&self.x.label), Axis::new(&self.y.label)];
        let plot = Plot {
            x: (&x, x.range(self.extent[0].into_iter())),
            y: (&y, y.range(self.extent[1].into_iter())),
            top: header_height(&self.overlay),
            height: 230.0,
        };
        let mut svg = plot.open(&self.title, &self.overlay, &OVERLAY);
        let _ = write!(
            svg,
            "<image x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" preserveAspectRatio=\"none\" \
             style=\"image-rendering:pixelated\" href=\"{}\"/>",
            MARGINS[0],
            plot.top,
            plot.width(),
            plot.height,
            data_uri(self.values.view(), low, high)?
        );
        plot.axes(&mut svg, false);
        let range = format!(
            "dark {} to bright {}",
            number(low.into()),
            number(high.into())
        );
        text(&mut svg, WIDTH - MARGINS[1], 18.0, "end", &range);
        plot.marks(&mut svg, &self.marks, "#fff");
        let share = Axis::new("");
        let over = Plot {
            y: (&share, [0.0, 1.0]),
            ..plot
        };
        for (index, series) in self.overlay.iter().enumerate() {
            over.series(&mut svg, series, OVERLAY[index % OVERLAY.len()]);
        }
        svg.push_str("</svg>");
        Ok(svg)
    }
}

/// Colors that stand out from the heat map's.
const OVERLAY: [&str; 4] = ["#ffffff", "#ff6f59", "#ffb3f0", "#ffd59e"];

/// Height of the title and the legend's lines.
fn header_height(series: &[Series]) -> f64 {
    let lines = legend(series).last().map_or(0.0, |(_, line, _)| line + 1.0);
    28.0 + 18.0 * lines
}

/// Where the names of series stand: x, line, index.
fn legend(series: &[Series]) -> Vec<(f64, f64, usize)> {
    let (mut x, mut line) = (MARGINS[0], 0.0);
    let mut places = Vec::new();
    for (index, series) in series.iter().enumerate() {
        if series.name.is_empty() {
            continue;
        }
        let width = 34.0 + CHARACTER * series.name.chars().count() as f64;
        if x + width > WIDTH && x > MARGINS[0] {
            (x, line) = (MARGINS[0], line + 1.0);
        }
        places.push((x, line, index));
        x += width;
    }
    places
}

/// The area between the axes.
#[derive(Clone, Copy)]
struct Plot<'a> {
    x: (&'a Axis, [f64; 2]),
    y: (&'a Axis, [f64; 2]),
    top: f64,
    height: f64,
}

impl Plot<'_> {
    fn width(&self) -> f64 {
        WIDTH - MARGINS[0] - MARGINS[1]
    }

    fn across(&self, place: f64) -> f64 {
        let [low, high] = self.x.1;
        MARGINS[0] + self.width() * (place - low) / (high - low)
    }

    fn up(&self, place: f64) -> f64 {
        let [low, high] = self.y.1;
        self.top + self.height * (high - place) / (high - low)
    }

    fn position(&self, [x, y]: [f64; 2]) -> Option<[f64; 2]> {
        Some([self.across(self.x.0.place(x)?), self.up(self.y.0.place(y)?)])
    }

    /// The element's beginning, the title and the legend.
    fn open(&self, title: &str, series: &[Series], colors: &[&str]) -> String {
        let height = self.top + self.height + MARGINS[2];
        let title = escape(title);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
             height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\" font-family=\"system-ui,sans-serif\" \
             font-size=\"12\" fill=\"#333\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
             <text x=\"{}\" y=\"18\" font-size=\"14\" font-weight=\"600\">{title}</text>",
            MARGINS[0]
        );
        for (x, line, index) in legend(series) {
            let (y, color) = (38.0 + 18.0 * line, colors[index % colors.len()]);
            let _ = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"14\" height=\"5\" fill=\"{color}\" stroke=\"#999\" \
                 stroke-width=\"0.5\"/>",
                y - 7.0
            );
            text(&mut svg, x + 20.0, y, "start", &series[index].name);
        }
        svg
    }

    /// Axes, ticks, labels, and a grid where the ground is empty.
    fn axes(&self, svg: &mut String, grid: bool) {
        let (left, right) = (MARGINS[0], MARGINS[0] + self.width());
        let bottom = self.top + self.height;
        let line = if grid { "#e4e4e4" } else { "none" };
        for (place, label) in self.x.0.ticks(self.x.1) {
            let x = self.across(place);
            let _ = write!(
                svg,
                "<path d=\"M{x:.1} {:.1}V{bottom:.1}\" stroke=\"{line}\"/>",
                self.top
            );
            text(svg, x, bottom + 16.0, "middle", &label);
        }
        for (place, label) in self.y.0.ticks(self.y.1) {
            let y = self.up(place);
            let _ = write!(
                svg,
                "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"{line}\"/>"
            );
            text(svg, left - 6.0, y + 4.0, "end", &label);
        }
        let _ = write!(
            svg,
            "<path d=\"M{left:.1} {:.1}V{bottom:.1}H{right:.1}\" fill=\"none\" stroke=\"#888\"/>",
            self.top
        );
        text(
            svg,
            (left + right) / 2.0,
            bottom + 34.0,
            "middle",
            &self.x.0.label,
        );
        let middle = self.top + self.height / 2.0;
        let _ = write!(
            svg,
            "<text transform=\"translate(14 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(&self.y.0.label)
        );
    }

    fn marks(&self, svg: &mut String, marks: &[Mark], color: &str) {
        for mark in marks {
            let Some(place) = self.x.0.place(mark.x).map(|place| self.across(place)) else {
                continue;
            };
            let _ = write!(
                svg,
                "<path d=\"M{place:.1} {:.1}v{:.1}\" stroke=\"{color}\" stroke-dasharray=\"3 3\"/>",
                self.top, self.height
            );
            if !mark.text.is_empty() {
                let _ = write!(
                    svg,
                    "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{}</text>",
                    place + 3.0,
                    self.top + 12.0,
                    escape(&mark.text)
                );
            }
        }
    }

    fn series(&self, svg: &mut String, series: &Series, color: &str) {
        if series.line {
            let mut path = String::new();
            let mut pen_down = false;
            for &point in &series.points {
                let Some([x, y]) = self.position(point) else {
                    pen_down = false;
                    continue;
                };
                let _ = write!(path, "{}{x:.1} {y:.1}", if pen_down { "L" } else { "M" });
                pen_down = true;
            }
            let _ = write!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.6\" stroke-linejoin=\"round\"/>"
            );
        }
        for (index, &point) in series.points.iter().enumerate() {
            let Some([x, y]) = self.position(point) else {
                continue;
            };
            if series.dots {
                let _ = write!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.8\" fill=\"{color}\"/>"
                );
            }
            if let Some(label) = series.labels.get(index).filter(|label| !label.is_empty()) {
                // Texts near the right edge stand on the left of their point.
                let (dx, anchor) = if x > 0.8 * WIDTH {
                    (-6.0, "end")
                } else {
                    (6.0, "start")
                };
                text(svg, x + dx, y + 4.0, anchor, label);
            }
        }
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    let _ = write!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escape(content)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Coordinates of an element's attribute, in order.
    fn attribute(svg: &str, element: &str, name: &str) -> Vec<f64> {
        svg.split(&format!("<{element} "))
            .skip(1)
            .filter_map(|rest| {
                let value = rest
                    .split('>')
                    .next()?
                    .split(&format!("{name}=\""))
                    .nth(1)?;
                value.split('"').next()?.parse().ok()
            })
            .collect()
    }

    #[test]
    fn points_stand_where_their_axes_say() {
        for (axis, values) in [
            (Axis::new("y"), [0.0, 5.0, 10.0]),
            (Axis::new("y").log(), [1.0, 10.0, 100.0]),
        ] {
            let points = values.iter().map(|&v| [v, v]).collect();
            let mut chart = Chart::new("t", Axis { ..axis.clone() }, axis);
            chart.series = vec![Series::dots("s", points)];
            let svg = chart.to_svg();
            let (x, y) = (
                attribute(&svg, "circle", "cx"),
                attribute(&svg, "circle", "cy"),
            );
            assert_eq!(x, [64.0, 384.0, 704.0]);
            assert!(
                y[0] > y[1] && (y[0] + y[2] - 2.0 * y[1]).abs() < 0.11,
                "{y:?}"
            );
        }
    }

    #[test]
    fn what_has_no_place_is_a_gap() {
        let mut chart = Chart::new("t", Axis::new("x"), Axis::new("y").log());
        let points = [1.0, 2.0, f64::NAN, 0.0, 4.0, 5.0];
        let points = points
            .iter()
            .enumerate()
            .map(|(i, &y)| [i as f64, y])
            .collect();
        chart.series = vec![Series::line("s", points)];
        let svg = chart.to_svg();
        let path = svg.split("stroke-width=\"1.6\"").next().unwrap();
        let path = path.rsplit("d=\"").next().unwrap();
        assert_eq!(
            (path.matches('M').count(), path.matches('L').count()),
            (2, 2),
            "{path}"
        );
    }

    #[test]
    fn a_heat_map_has_its_picture_curves_and_marks() {
        let values = Array2::from_shape_fn((4, 6), |(r, c)| (r * c) as f32);
        let mut map = HeatMap::new("m", Axis::new("seconds"), Axis::new("mel"), values);
        map.extent = [[0.0, 3.0], [0.0, 4.0]];
        map.overlay = vec![Series::line("p(a)", vec![[0.0, 0.0], [3.0, 1.0]])];
        map.marks = vec![Mark {
            x: 1.5,
            text: "a < b".to_owned(),
        }];
        let svg = map.to_svg().unwrap();
        assert!(svg.contains("data:image/png;base64,") && svg.contains("a &lt; b"));
        assert!(svg.contains("dark 0 to bright 15"));
        // From the lower left corner to the upper right one.
        assert!(svg.contains("M64.0 276.0L704.0 46.0"), "{svg}");
        assert!(svg.contains("M384.0 46.0v230.0"));
        map.values = Array2::zeros((0, 0));
        assert!(map.to_svg().is_err());
    }

    proptest! {
        #[test]
        fn any_numbers_and_texts_make_a_whole_element(
            points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..20),
            name in "\\PC{0,40}",
            log in any::<bool>(),
        ) {
            let axis = |label: &str| if log { Axis::new(label).log() } else { Axis::new(label) };
            let mut chart = Chart::new(&name, axis(&name), axis("y"));
            let points: Vec<[f64; 2]> = points.into_iter().map(|(x, y)| [x, y]).collect();
            chart.marks = points.iter().map(|p| Mark { x: p[0], text: name.clone() }).collect();
            chart.series = vec![Series::line(&name, points).with_dots().with_labels(vec![name.clone()])];
            let svg = chart.to_svg();
            prop_assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
            prop_assert!(!svg.contains("NaN\"") && !svg.contains("inf "));
            prop_assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        }
    }
}

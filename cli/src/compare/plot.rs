//! Errors against latency, as SVG: latency on a logarithmic axis, one point a model and thread count.

use std::fmt::Write;

/// Width and height of the picture.
const SIZE: [f64; 2] = [640.0, 420.0];

/// Room for the axes: left, right, top, bottom.
const ROOM: [f64; 4] = [56.0, 150.0, 20.0, 46.0];

/// A model in the picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point<'a> {
    pub label: &'a str,
    pub threads: usize,
    /// Median latency.
    pub latency_ms: f64,
    /// In percent.
    pub wer: f64,
    /// Whether the errors are given the transcript.
    pub given: bool,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The picture.
pub(super) fn svg(points: &[Point<'_>]) -> String {
    let latency = |point: &Point<'_>| point.latency_ms.max(0.01).log10();
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        })
    };
    let (low, high) = ends(&mut points.iter().map(latency));
    let (low, high) = match low.is_finite() && high.is_finite() {
        true => (low.floor(), high.ceil().max(low.floor() + 1.0)),
        false => (0.0, 1.0),
    };
    let (_, worst) = ends(&mut points.iter().map(|point| point.wer));
    let top = (worst.max(1.0) * 1.15).min(1e6);
    let [width, height] = SIZE;
    let [left, right, above, below] = ROOM;
    let x = |value: f64| left + (value - low) / (high - low) * (width - left - right);
    let y = |value: f64| height - below - value / top * (height - above - below);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>"
    );
    // Writing to a String cannot fail.
    for decade in low as i32..=high as i32 {
        let at = x(f64::from(decade));
        let _ = write!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{above}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            height - below,
            height - below + 16.0,
            10f64.powi(decade)
        );
    }
    for part in 0..=4 {
        let value = top * f64::from(part) / 4.0;
        let _ = write!(
            out,
            "<line x1=\"{left}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.1}</text>",
            width - right,
            y(value),
            y(value),
            left - 6.0,
            y(value) + 4.0
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">median latency, ms</text>\
         <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">WER, %</text>",
        (left + width - right) / 2.0,
        height - 8.0,
        (above + height - below) / 2.0
    );
    for point in points {
        let (cx, cy) = (x(latency(point)), y(point.wer.min(top)));
        let (fill, note) = match point.given {
            true => ("none", ", given the transcript"),
            false => ("#1b5fb3", ""),
        };
        let _ = write!(
            out,
            "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"5\" fill=\"{fill}\" stroke=\"#1b5fb3\" stroke-width=\"1.5\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{} ({} thread{}{note})</text>",
            cx + 9.0,
            cy + 4.0,
            escaped(point.label),
            point.threads,
            if point.threads == 1 { "" } else { "s" }
        );
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_has_a_point_inside_the_picture() {
        let point = |label, latency_ms, wer, given| Point {
            label,
            threads: 1,
            latency_ms,
            wer,
            given,
        };
        let text = svg(&[
            point("a<b", 3.0, 12.0, false),
            point("oracle", 40.0, 0.5, true),
        ]);
        assert_eq!(text.matches("<circle").count(), 2);
        assert!(text.contains("a&lt;b") && text.contains("given the transcript"));
        for part in text.split("cx=\"").skip(1) {
            let value: f64 = part.split('"').next().unwrap().parse().unwrap();
            assert!((ROOM[0]..=SIZE[0] - ROOM[1]).contains(&value), "{value}");
        }
        assert!(svg(&[]).contains("<svg"));
        assert!(!svg(&[point("n", 0.0, 0.0, false)]).contains("NaN"));
    }
}

//! Axes of charts: scales, ranges, round ticks, numbers as short texts.

/// How values are spread along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// By their logarithm.
    Log,
}

/// An axis of a chart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// Linear or logarithmic.
    pub scale: Scale,
    /// Values that it must reach, whatever the data.
    pub reach: Vec<f64>,
}

impl Axis {
    /// A linear axis over the data's range.
    pub fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            ..Self::default()
        }
    }

    /// The axis with a logarithmic scale.
    #[must_use]
    pub fn log(mut self) -> Self {
        self.scale = Scale::Log;
        self
    }

    /// The axis beginning at 0.
    #[must_use]
    pub fn from_zero(mut self) -> Self {
        self.reach.push(0.0);
        self
    }

    /// Where a value stands, in the unit that is spread evenly; none where it has no place.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        // Beyond these powers differences and quotients of numbers are no longer numbers.
        match self.scale {
            Scale::Linear if value.abs() < 1e-300 => Some(0.0),
            Scale::Linear => (value.abs() < 1e300).then_some(value),
            Scale::Log => (1e-300..1e300).contains(&value).then(|| value.log10()),
        }
    }

    /// The range of places that holds all `values`; never empty.
    pub(super) fn range(&self, values: impl Iterator<Item = f64>) -> [f64; 2] {
        let places = values
            .chain(self.reach.iter().copied())
            .filter_map(|value| self.place(value));
        let [low, high] = places.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], place| {
            [low.min(place), high.max(place)]
        });
        if low > high {
            return [0.0, 1.0];
        }
        // A single value stands in the middle.
        let spread = high - low;
        if spread > 1e-12 * high.abs().max(low.abs()) {
            [low, high]
        } else {
            let room = if self.scale == Scale::Log {
                0.5
            } else {
                0.5 * high.abs().max(1.0)
            };
            [low - room, high + room]
        }
    }

    /// The range with room at its ends, so that curves do not run along the frame; a value that must be reached, such
    /// as 0, stays the end.
    pub(super) fn with_room(&self, [low, high]: [f64; 2]) -> [f64; 2] {
        let room = 0.04 * (high - low);
        let reached = |end: f64| {
            let mut places = self.reach.iter().filter_map(|&value| self.place(value));
            places.any(|place| place == end)
        };
        [
            if reached(low) { low } else { low - room },
            if reached(high) { high } else { high + room },
        ]
    }

    /// The ticks within a range of places: place and text.
    pub(super) fn ticks(&self, [low, high]: [f64; 2]) -> Vec<(f64, String)> {
        let inside = |place: f64| place >= low - 1e-9 && place <= high + 1e-9;
        if self.scale == Scale::Log {
            let decades = (low.floor() as i32)..=(high.ceil() as i32);
            let within = if high - low > 3.0 {
                &[1.0][..]
            } else {
                &[1.0, 2.0, 5.0][..]
            };
            let every = ((high - low) / 8.0).ceil().max(1.0) as usize;
            let ticks: Vec<(f64, String)> = decades
                .step_by(every)
                .flat_map(|decade| within.iter().map(move |part| part * 10f64.powi(decade)))
                .map(|value| (value.log10(), number(value)))
                .filter(|&(place, _)| inside(place))
                .collect();
            if ticks.len() > 1 {
                return ticks;
            }
            // Less than from one round number to the next: evenly spread ones, at their places.
            let even = Axis::new("").ticks([10f64.powf(low), 10f64.powf(high)]);
            return even
                .into_iter()
                .map(|(value, text)| (value.log10(), text))
                .collect();
        }
        let rough = (high - low) / 6.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|part| part * decade)
            .into_iter()
            .find(|&step| step >= rough)
            .unwrap_or(rough);
        let first = (low / step).ceil() as i64;
        (first..first + 12)
            // Adding nothing to 0 makes -0 of no tick.
            .map(|index| index as f64 * step + 0.0)
            .take_while(|&value| inside(value))
            .map(|value| (value, number(value)))
            .collect()
    }
}

/// A number as short as four digits allow.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-3..1e5).contains(&size) {
        let digits = if value == 0.0 {
            0
        } else {
            (3 - size.log10().floor() as i32).clamp(0, 6)
        };
        let text = format!("{value:.*}", digits as usize);
        if text.contains('.') {
            return text.trim_end_matches('0').trim_end_matches('.').to_owned();
        }
        return text;
    }
    let exponent = size.log10().floor() as i32;
    let mantissa = format!("{:.1}", value / 10f64.powi(exponent));
    format!("{}e{exponent}", mantissa.trim_end_matches(".0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let texts = |axis: &Axis, range| -> Vec<String> {
            axis.ticks(range)
                .into_iter()
                .map(|(_, text)| text)
                .collect()
        };
        let linear = Axis::new("");
        assert_eq!(texts(&linear, [0.0, 10.0]), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            texts(&linear, [-0.03, 0.07]),
            ["-0.02", "0", "0.02", "0.04", "0.06"]
        );
        let log = Axis::new("").log();
        assert_eq!(
            texts(&log, [0.0, 2.0]),
            ["1", "2", "5", "10", "20", "50", "100"]
        );
        assert_eq!(
            texts(&log, [-6.0, 0.0]).first().map(String::as_str),
            Some("1e-6")
        );
        assert_eq!(number(123_456.0), "1.2e5");
        assert_eq!(number(0.00002), "2e-5");
        assert_eq!(number(12.5), "12.5");
    }
}

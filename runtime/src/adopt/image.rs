//! PP-OCR's recognizers: `[B, 3, 48, T]` in blue, green, red from -1 to 1, probabilities `[B, T, V]` out.

use super::draft::{Plan, fixed, input, rank};
use super::{Preset, Report, Standing, unsure};
use crate::Result;
use crate::model::header::ModelHeader;
use crate::spec::{FrontEnd, ImageChannels, InputLayout, LineSpec, OutputValues};

/// The stride of every PP-OCR recognizer so far; the probe measures it.
const STRIDE: usize = 8;

/// What the convention says of a graph.
pub(super) fn ppocr(header: &ModelHeader, preset: &Preset, report: &mut Report) -> Result<Plan> {
    let image = input(header, preset, "x", report)?;
    rank(image, 4, "B C H T", ": this is no recognizer of images")?;
    let mut line = match &preset.front_end {
        Some(FrontEnd::Line(line)) => {
            report.note(Standing::Given, "front-end", "by the preset");
            line.clone()
        }
        Some(_) => {
            return Err(unsure(
                "PP-OCR reads images: the preset's front_end must be a line",
            ));
        }
        None => conventional(fixed(image, 2), fixed(image, 1), preset.min_width, report)?,
    };
    if let Some(width) = preset.min_width {
        report.note(Standing::Given, "min_width", width);
        line.min_width = width;
    }
    if let Some(width) = fixed(image, 3) {
        report.found(
            "width",
            format!("{width}: longer lines are squeezed into it"),
        );
        (line.min_width, line.max_width) = (width, width);
    }
    let output = match (&preset.output, header.outputs.first()) {
        (Some(name), _) => name.clone(),
        (None, Some(first)) => first.name.clone(),
        (None, None) => return Err(unsure("the graph has no output")),
    };
    let (stride, _) = report.settle("stride", preset.stride, None, STRIDE);
    Ok(Plan {
        front_end: FrontEnd::Line(line),
        input: image.name.clone(),
        input_layout: InputLayout::BCHT,
        input_length: preset.input_length.clone(),
        given: preset.given.clone(),
        output,
        output_values: OutputValues::Probs,
        stride,
        streaming: None,
    })
}

fn conventional(
    height: Option<usize>,
    channels: Option<usize>,
    min_width: Option<usize>,
    report: &mut Report,
) -> Result<LineSpec> {
    let paddle = LineSpec::paddle();
    let (height, _) = report.settle("height", None, height, paddle.height);
    match channels {
        Some(3) | None => {}
        Some(other) => {
            return Err(unsure(format!(
                "the input takes {other} channels, PP-OCR's recognizers take 3: describe the front_end in a preset"
            )));
        }
    }
    report.assumed("channels", "blue, green, red");
    report.assumed("normalization", "(x / 255 - 0.5) / 0.5");
    report.assumed(
        "width",
        format!(
            "aspect kept, OpenCV's bilinear scaling, gray to at least {} columns",
            min_width.unwrap_or(paddle.min_width)
        ),
    );
    Ok(LineSpec {
        height,
        channels: ImageChannels::Bgr,
        ..paddle
    })
}

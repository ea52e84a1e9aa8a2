//! Recognition of scene text: images of words or lines, one at a time or many in a batch.
//!
//! Output frame i covers the columns from `i * stride` on. A character stands between the middles of the gaps to its
//! neighbors; places are given in pixels of the source image, through the projection that the line was made with.

#[cfg(feature = "onnx")]
use super::builder::{Opened, RecognizerBuilder};
use super::serves;
use crate::decode::Plan;
use crate::features::{Line, LineReader};
use crate::image::{ImageView, Quad};
use crate::model::{CtcModel, ModelState};
#[cfg(feature = "onnx")]
use crate::model::{Library, OrtModel};
use crate::spec::{FrontEnd, ModelSpec, Task};
use crate::transcript::{FrameSpan, NBest, TokenSpan, Transcript, Word};
use crate::{Decoding, Error, ErrorKind, LogProbs, Result, Tokens};
use ndarray::Array2;
use std::sync::Arc;

/// Most lines of one run, so that a batch of any size takes bounded memory.
const MAX_BATCH: usize = 32;

/// What to read: an image, or a part of one.
#[derive(Debug, Clone, Copy)]
pub struct Crop<'a> {
    /// The image.
    pub image: ImageView<'a>,
    /// The part; absent for the whole image.
    pub quad: Option<Quad>,
}

impl<'a> From<ImageView<'a>> for Crop<'a> {
    fn from(image: ImageView<'a>) -> Self {
        Self { image, quad: None }
    }
}

/// Turns images of words and lines into text. Clones share the model; any number of threads may call one.
#[derive(Debug, Clone)]
pub struct TextRecognizer {
    /// Of graphs with a fixed width the narrowest first; of any other just the one.
    models: Arc<[(Arc<dyn CtcModel>, LineReader)]>,
    tokens: Arc<Tokens>,
}

impl TextRecognizer {
    /// A recognizer over any model.
    ///
    /// # Errors
    /// [`ErrorKind::Role`] for a model of another task or an oracle teacher, which sees the label it would have to
    /// find; [`ErrorKind::Spec`] if front-end or tokens are not what can be run.
    pub fn new(model: impl CtcModel + 'static) -> Result<Self> {
        Self::with_widths([model])
    }

    /// A recognizer over several graphs of one model, each of a fixed width (`acolyte-train export --fixed-shape --widths`):
    /// a line is read by the narrowest that it fits, or squeezed into the widest. Mobile providers take no other graphs.
    ///
    /// # Errors
    /// As [`new`](Self::new) for each; [`ErrorKind::InvalidArgument`] for no model, for several of which one has no
    /// fixed width, and for models with different vocabularies.
    pub fn with_widths<M: CtcModel + 'static>(models: impl IntoIterator<Item = M>) -> Result<Self> {
        let mut read = (models.into_iter())
            .map(|model| {
                Self::reader(&model).map(|reader| (Arc::new(model) as Arc<dyn CtcModel>, reader))
            })
            .collect::<Result<Vec<_>>>()?;
        read.sort_by_key(|(model, _)| model.fixed_frames());
        let refuse = |message: &str| Err(Error::new(ErrorKind::InvalidArgument, message));
        let Some(first) = read.first().map(|(model, _)| model.spec().tokens.clone()) else {
            return refuse("no model to read with");
        };
        if read.len() > 1 && read.iter().any(|(model, _)| model.fixed_frames().is_none()) {
            return refuse(
                "one of several models takes any width: the others are of no use beside it",
            );
        }
        if read.iter().any(|(model, _)| model.spec().tokens != first) {
            return refuse("the models have different vocabularies: give graphs of one model");
        }
        Ok(Self {
            tokens: Arc::new(Tokens::new(first)?),
            models: read.into(),
        })
    }

    /// The front-end of a model.
    fn reader(model: &impl CtcModel) -> Result<LineReader> {
        let spec = model.spec();
        serves(spec, Task::SceneText)?;
        let FrontEnd::Line(line) = &spec.front_end else {
            return Err(Error::new(
                ErrorKind::Spec,
                "a model of images with a front-end for audio",
            ));
        };
        let mut reader = LineReader::new(line)?;
        if let Some(frames) = model.fixed_frames() {
            reader = reader.with_fixed_frames(frames);
        }
        Ok(reader)
    }

    /// The model and front-end of the widest graph.
    fn widest(&self) -> &(Arc<dyn CtcModel>, LineReader) {
        // `with_widths` refuses to make a recognizer without a model.
        &self.models[self.models.len() - 1]
    }

    /// The model that takes lines of so many frames.
    fn model_of(&self, frames: usize) -> &Arc<dyn CtcModel> {
        let fits = |(model, _): &&(Arc<dyn CtcModel>, LineReader)| {
            model.fixed_frames().is_none_or(|f| f == frames)
        };
        &self.models.iter().find(fits).unwrap_or(self.widest()).0
    }

    /// The way to a recognizer over an ONNX file.
    #[cfg(feature = "onnx")]
    pub fn builder(library: &Library) -> RecognizerBuilder<Self> {
        RecognizerBuilder::new(library)
    }

    /// What the model says about itself; of several graphs, the widest.
    pub fn spec(&self) -> &ModelSpec {
        self.widest().0.spec()
    }

    /// The model; of several graphs, the widest.
    pub fn model(&self) -> &Arc<dyn CtcModel> {
        &self.widest().0
    }

    /// The model's front-end; of several graphs, the widest.
    pub fn front_end(&self) -> &LineReader {
        &self.widest().1
    }

    /// The model's vocabulary.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// The text of a word or line that fills an image or a part of it, with the place of every word and token.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for settings that do not fit the vocabulary and for a quad that no line can be
    /// made of; [`ErrorKind::Inference`] if the model fails.
    pub fn recognize<'a>(
        &self,
        crop: impl Into<Crop<'a>>,
        decoding: &Decoding,
    ) -> Result<Transcript<Quad>> {
        let plan = decoding.plan(&self.tokens)?;
        Ok(self.recognize_with(crop, &plan)?.into_best())
    }

    /// The best readings of a crop, with settings already made for [`tokens`](Self::tokens).
    ///
    /// # Errors
    /// As [`recognize`](Self::recognize).
    pub fn recognize_with<'a>(
        &self,
        crop: impl Into<Crop<'a>>,
        plan: &Plan,
    ) -> Result<NBest<Quad>> {
        let line = self.line(&crop.into())?;
        let scores = self.scores(&line)?;
        self.readings(&line, &scores, plan)
    }

    /// The best readings of many crops, each as it would be read alone; lines of equal width share a run of the
    /// model. A crop that cannot be read is an error in its own place.
    pub fn recognize_batch(&self, crops: &[Crop<'_>], plan: &Plan) -> Vec<Result<NBest<Quad>>> {
        let mut lines: Vec<Result<Line>> = Vec::with_capacity(crops.len());
        let mut out: Vec<Option<Result<NBest<Quad>>>> = Vec::new();
        out.resize_with(crops.len(), || None);
        for (start, part) in crops.chunks(MAX_BATCH).enumerate() {
            lines.clear();
            lines.extend(part.iter().map(|crop| self.line(crop)));
            let mut order: Vec<usize> = (0..part.len()).collect();
            order.sort_by_key(|&i| lines[i].as_ref().map_or(0, Line::frames));
            let good: Vec<(usize, &Line)> = (order.iter())
                .filter_map(|&i| Some((i, lines[i].as_ref().ok()?)))
                .collect();
            for group in good.chunk_by(|(_, a), (_, b)| a.frames() == b.frames()) {
                for (i, reading) in self.read_group(group, plan) {
                    out[start * MAX_BATCH + i] = Some(reading);
                }
            }
            for (i, line) in lines.drain(..).enumerate() {
                if let Err(error) = line {
                    out[start * MAX_BATCH + i] = Some(Err(error));
                }
            }
        }
        let lost = || {
            Err(Error::new(
                ErrorKind::Inference,
                "the batch gave no reading",
            ))
        };
        out.into_iter()
            .map(|reading| reading.unwrap_or_else(lost))
            .collect()
    }

    /// Lines of one width in one run; where the run fails, each alone, so that only what is at fault fails.
    fn read_group(
        &self,
        group: &[(usize, &Line)],
        plan: &Plan,
    ) -> Vec<(usize, Result<NBest<Quad>>)> {
        let spec = self.spec();
        let mut states = vec![ModelState::start(spec); group.len()];
        let mut blocks: Vec<_> = (group.iter())
            .zip(&mut states)
            .map(|((_, line), state)| (line.features(), state))
            .collect();
        let frames = group.first().map_or(0, |(_, line)| line.frames());
        match self.model_of(frames).run_batch(&mut blocks) {
            Ok(scores) if scores.len() == group.len() => (group.iter())
                .zip(scores)
                .map(|(&(i, line), scores)| (i, self.readings(line, &scores, plan)))
                .collect(),
            _ => (group.iter())
                .map(|&(i, line)| {
                    let scores = self.scores(line);
                    (
                        i,
                        scores.and_then(|scores| self.readings(line, &scores, plan)),
                    )
                })
                .collect(),
        }
    }

    /// The crop as the model takes it.
    ///
    /// # Errors
    /// As [`LineReader::read`] and [`LineReader::read_quad`].
    pub fn line(&self, crop: &Crop<'_>) -> Result<Line> {
        let (width, height) = match &crop.quad {
            None => (crop.image.width() as f32, crop.image.height() as f32),
            Some(quad) => (quad.width(), quad.height()),
        };
        let fits = |(model, reader): &&(Arc<dyn CtcModel>, LineReader)| {
            model
                .fixed_frames()
                .is_none_or(|frames| reader.spec().columns(width, height) <= frames)
        };
        let (_, reader) = self.models.iter().find(fits).unwrap_or(self.widest());
        match &crop.quad {
            None => reader.read(&crop.image),
            Some(quad) => reader.read_quad(&crop.image, quad),
        }
    }

    /// The model's scores `[T', V]` of a line, in the values the spec names.
    ///
    /// # Errors
    /// As [`CtcModel::run`].
    pub fn scores(&self, line: &Line) -> Result<Array2<f32>> {
        let mut state = ModelState::start(self.spec());
        self.model_of(line.frames())
            .run(line.features(), &mut state)
    }

    fn readings(&self, line: &Line, scores: &Array2<f32>, plan: &Plan) -> Result<NBest<Quad>> {
        let values = self.spec().graph.output_values;
        let readings = plan.decode(&LogProbs::new(scores.view(), values))?;
        let stride = self.spec().stride as f32;
        let placed = |reading: &Transcript<FrameSpan>| place(reading, line, stride);
        let others = readings.others().iter().map(placed).collect();
        Ok(NBest::new(placed(readings.best()), others))
    }
}

/// Frames turned into places of the image.
fn place(reading: &Transcript<FrameSpan>, line: &Line, stride: f32) -> Transcript<Quad> {
    let edges = edges(&reading.tokens, line.columns() as f32 / stride);
    let quad = |tokens: std::ops::Range<usize>| {
        let from = edges.get(tokens.start).map_or(0.0, |edge| edge.0);
        let to = tokens.end.checked_sub(1).and_then(|last| edges.get(last));
        line.place(from * stride, to.map_or(from, |edge| edge.1) * stride)
    };
    Transcript {
        text: reading.text.clone(),
        confidence: reading.confidence,
        score: reading.score,
        margin: reading.margin,
        words: (reading.words.iter())
            .map(|word| Word {
                text: word.text.clone(),
                span: quad(word.tokens.clone()),
                confidence: word.confidence,
                tokens: word.tokens.clone(),
            })
            .collect(),
        tokens: (reading.tokens.iter().enumerate())
            .map(|(index, token)| TokenSpan {
                id: token.id,
                span: quad(index..index + 1),
                confidence: token.confidence,
            })
            .collect(),
    }
}

/// Where each token begins and ends, in output frames: the middle of the gap to its neighbor. The first and last reach
/// out by half the mean gap, within `length`.
fn edges(tokens: &[TokenSpan<FrameSpan>], length: f32) -> Vec<(f32, f32)> {
    let span = |token: &TokenSpan<FrameSpan>| (token.span.start as f32, token.span.end as f32);
    let middles: Vec<f32> = (tokens.windows(2))
        .map(|pair| 0.5 * (span(&pair[0]).1 + span(&pair[1]).0))
        .collect();
    let gaps: f32 = (tokens.windows(2))
        .map(|pair| (span(&pair[1]).0 - span(&pair[0]).1).max(0.0))
        .sum();
    // A word of one letter has no gap to measure: it is taken to fill what there is around it.
    let reach = match middles.len() {
        0 => length,
        pairs => 0.5 * gaps / pairs as f32,
    };
    (tokens.iter().enumerate())
        .map(|(index, token)| {
            let (start, end) = span(token);
            let before = index.checked_sub(1).and_then(|i| middles.get(i));
            let start = before.copied().unwrap_or((start - reach).max(0.0));
            let end = middles
                .get(index)
                .copied()
                .unwrap_or((end + reach).min(length));
            (start, end.max(start))
        })
        .collect()
}

#[cfg(feature = "onnx")]
impl Opened for TextRecognizer {
    const TASK: Task = Task::SceneText;

    fn over(model: OrtModel) -> Result<Self> {
        Self::new(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PixelFormat;
    use crate::model::FakeModel;
    use crate::model::testing::line_spec;
    use crate::spec::Role;
    use proptest::prelude::*;

    const fn is_shared<T: Clone + Send + Sync + 'static>() {}
    const _: () = is_shared::<TextRecognizer>();

    /// The fake reads the brightest row of every second column: row 0 is the blank, row 1 the space, row 2 `a`.
    fn fake() -> TextRecognizer {
        TextRecognizer::new(FakeModel::new(line_spec(8)).unwrap()).unwrap()
    }

    /// A picture the fake reads: each letter 4 columns wide, 4 columns of blank after it.
    fn picture(text: &str) -> (Vec<u8>, usize) {
        let width = 8 * text.len();
        let mut data = vec![0; 8 * width];
        for (index, letter) in text.bytes().enumerate() {
            let row = if letter == b' ' {
                1
            } else {
                usize::from(letter - b'a') + 2
            };
            for x in 0..8 {
                let row = if x < 4 { row } else { 0 };
                data[row * width + 8 * index + x] = 255;
            }
        }
        (data, width)
    }

    fn view(data: &[u8], width: usize) -> ImageView<'_> {
        ImageView::new(data, width, 8, width, PixelFormat::Gray).unwrap()
    }

    #[test]
    fn pictures_read_with_places() {
        let (data, width) = picture("ab cab");
        let read = fake()
            .recognize(view(&data, width), &Decoding::greedy())
            .unwrap();
        assert_eq!(read.text, "ab cab");
        assert_eq!(read.tokens.len(), 6);
        for (index, token) in read.tokens.iter().enumerate() {
            let [left, top, right, bottom] = token.span.bounds();
            let start = 8.0 * index as f32;
            assert!(
                (left - start).abs() <= 2.5 && (right - start - 4.0).abs() <= 2.5,
                "{token:?}"
            );
            assert_eq!((top, bottom), (0.0, 8.0));
        }
        let [left, _, right, _] = read.words[1].span.bounds();
        assert!((left - 22.0).abs() < 2.5 && (right - 46.0).abs() < 2.5);
    }

    #[test]
    fn a_part_reads_as_itself_and_is_placed_in_the_whole() {
        let (data, width) = picture("abcdef");
        let image = view(&data, width);
        let quad = Quad::rectangle(16.0, 0.0, 16.0, 8.0);
        let crop = Crop {
            image,
            quad: Some(quad),
        };
        let read = fake().recognize(crop, &Decoding::greedy()).unwrap();
        assert_eq!(read.text, "cd");
        let bounds = read.words[0].span.bounds();
        assert!(bounds[0] >= 16.0 && bounds[2] <= 32.0, "{bounds:?}");
    }

    #[test]
    fn bad_crops_of_a_batch_are_reported_in_their_place() {
        let (data, width) = picture("bad cafe");
        let image = view(&data, width);
        let bad = Quad::rectangle(900.0, 0.0, 8.0, 8.0);
        let crops: Vec<Crop<'_>> = (0..80)
            .map(|i| Crop {
                image,
                quad: (i % 7 == 3).then_some(bad),
            })
            .collect();
        let recognizer = fake();
        let plan = Decoding::greedy().plan(recognizer.tokens()).unwrap();
        let out = recognizer.recognize_batch(&crops, &plan);
        assert_eq!(out.len(), 80);
        for (i, reading) in out.into_iter().enumerate() {
            match reading {
                Ok(reading) => assert!(i % 7 != 3 && reading.best().text == "bad cafe"),
                Err(error) => assert!(i % 7 == 3 && error.kind() == ErrorKind::InvalidArgument),
            }
        }
    }

    #[test]
    fn other_tasks_and_oracle_teachers_are_refused() {
        let oracle = ModelSpec {
            role: Role::OracleTeacher,
            ..line_spec(8)
        };
        let error = TextRecognizer::new(FakeModel::new(oracle).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Role);
        let speech = crate::model::testing::tiny_spec(crate::model::testing::Tiny {
            state: false,
            ..crate::model::testing::TINY
        });
        let error = TextRecognizer::new(FakeModel::new(speech).unwrap()).unwrap_err();
        assert!(error.to_string().contains("reads no images"), "{error}");
    }

    proptest! {
        #[test]
        fn batch_neighbors_change_nothing(texts in proptest::collection::vec("[a-f]{1,5}( [a-f]{1,4})?", 1..40)) {
            let recognizer = fake();
            let plan = Decoding::greedy().plan(recognizer.tokens()).unwrap();
            let pictures: Vec<_> = texts.iter().map(|text| picture(text)).collect();
            let crops: Vec<Crop<'_>> = pictures.iter().map(|(data, width)| view(data, *width).into()).collect();
            for ((crop, text), together) in crops.iter().zip(&texts).zip(recognizer.recognize_batch(&crops, &plan)) {
                let alone = recognizer.recognize_with(*crop, &plan).unwrap();
                prop_assert_eq!(&together.unwrap(), &alone);
                prop_assert_eq!(&alone.best().text, text);
            }
        }
    }
}

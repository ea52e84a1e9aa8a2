//! What a stream is given and what it tells.

use crate::transcript::{NBest, TimeSpan, Transcript};
use std::collections::VecDeque;

/// Samples as a device or an app hands them over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Samples<'a> {
    /// Interleaved frames `[n, channels]`, in [-1, 1].
    pub data: &'a [f32],
    /// Frames per second.
    pub rate: u32,
    /// Channels per frame; they are averaged.
    pub channels: u16,
}

impl<'a> Samples<'a> {
    /// Samples of one channel.
    pub fn mono(data: &'a [f32], rate: u32) -> Self {
        Self {
            data,
            rate,
            channels: 1,
        }
    }
}

/// What a stream has to tell. Times are in seconds from the start of the stream.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The text of the utterance under way has changed.
    Partial {
        /// What no later audio can change: within an utterance it only grows.
        stable: String,
        /// What follows it as things stand; append it as it is.
        tentative: String,
    },
    /// An utterance ended, or a part of a long one that nothing can change: its readings, the best with a text.
    Final(NBest<TimeSpan>),
    /// An utterance ended whose best reading is not to be believed: it lies further below the unconstrained best than
    /// the settings' `reject` allows ([`Transcript::margin`]).
    Rejected(Transcript<TimeSpan>),
    /// Audio is missing here. What was said before it has been given out.
    Gap {
        /// Seconds that were lost.
        lost: f64,
    },
}

/// Events nobody has asked for yet, at most [`MOST_EVENTS`].
#[derive(Debug, Default)]
pub(super) struct Events {
    queue: VecDeque<Event>,
    /// The text last told in a partial event, or to be told.
    shown: (String, String),
}

/// An app that pushes hours of audio and never polls gets an error, not all memory.
const MOST_EVENTS: usize = 1 << 16;

impl Events {
    pub(super) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    pub(super) fn push(&mut self, event: Event) -> crate::Result<()> {
        if self.queue.len() >= MOST_EVENTS {
            return Err(crate::Error::new(
                crate::ErrorKind::Limit,
                format!("{MOST_EVENTS} events wait to be polled: call `poll` until it gives none"),
            ));
        }
        self.queue.push_back(event);
        Ok(())
    }

    /// Tells the text so far where it differs from what was told; of partials in a row only the last is kept.
    pub(super) fn show(&mut self, stable: String, tentative: String) -> crate::Result<()> {
        if (&stable, &tentative) == (&self.shown.0, &self.shown.1) {
            return Ok(());
        }
        self.shown = (stable.clone(), tentative.clone());
        if let Some(Event::Partial { .. }) = self.queue.back() {
            self.queue.pop_back();
        }
        self.push(Event::Partial { stable, tentative })
    }

    /// A new utterance: nothing of it has been shown. Partials not polled yet are of no more use.
    pub(super) fn forget_partial(&mut self) {
        if let Some(Event::Partial { .. }) = self.queue.back() {
            self.queue.pop_back();
        }
        self.shown = Default::default();
    }
}

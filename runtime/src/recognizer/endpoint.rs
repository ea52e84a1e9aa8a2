//! Where one utterance of an endless stream ends: rules over trailing blanks, energy and length.
//!
//! Counted in output frames. A frame is *blank* when the best reading has no token on it or after it, and *quiet*
//! when its level is near the noise floor: the lowest level heard lately, which rises again by 3 dB a second, so that
//! it follows a noise that sets in. The rules are those users of streaming recognizers know (Kaldi's
//! `endpoint.rule1` to `rule5`), with the same defaults.

/// When an utterance ends. All times are in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointRules {
    /// Silence, blank and quiet both, after something was said. Default 1.2.
    pub silence: f64,
    /// Blanks alone after something was said: the end in noise that never gets quiet. Default 2.4.
    pub blanks: f64,
    /// Blanks at the start, with nothing said: the search begins anew, and nothing is reported. Default 2.4.
    pub nothing: f64,
    /// Length from which on an utterance is given out in parts, cut between words. Default 20.
    pub longest: f64,
    /// How far above the noise floor a frame may be and still count as quiet, in dB. Default 12.
    pub quiet_db: f32,
}

impl Default for EndpointRules {
    fn default() -> Self {
        Self {
            silence: 1.2,
            blanks: 2.4,
            nothing: 2.4,
            longest: 20.0,
            quiet_db: 12.0,
        }
    }
}

/// The longest time any rule may ask for: what keeps the memory of a stream bounded.
const MOST_SECONDS: f64 = 600.0;

impl EndpointRules {
    /// The same with another silence after speech.
    #[must_use]
    pub fn with_silence(mut self, seconds: f64) -> Self {
        self.silence = seconds;
        self
    }

    /// The same with another length from which on parts are given out.
    #[must_use]
    pub fn with_longest(mut self, seconds: f64) -> Self {
        self.longest = seconds;
        self
    }

    /// Fails with [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) where a time is not between 0 and
    /// 600 seconds, or the level is no number.
    pub(super) fn check(&self) -> crate::Result<()> {
        let times = [
            ("silence", self.silence),
            ("blanks", self.blanks),
            ("nothing", self.nothing),
            ("longest", self.longest),
        ];
        for (name, seconds) in times {
            if !(seconds > 0.0 && seconds <= MOST_SECONDS) {
                return Err(crate::Error::new(
                    crate::ErrorKind::InvalidArgument,
                    format!(
                        "endpoint rule {name:?} is {seconds} s: more than 0 and at most {MOST_SECONDS} s is expected"
                    ),
                ));
            }
        }
        if !(0.0..=200.0).contains(&self.quiet_db) {
            return Err(crate::Error::new(
                crate::ErrorKind::InvalidArgument,
                format!(
                    "endpoint rule \"quiet_db\" is {} dB: 0 to 200 is expected",
                    self.quiet_db
                ),
            ));
        }
        Ok(())
    }
}

/// What the rules say after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The utterance goes on.
    Continue,
    /// It ended.
    End,
    /// Nothing was said for so long that the search may begin anew.
    Restart,
    /// It is so long that what is certain of it should be given out.
    Split,
}

/// The rules at work on one stream.
#[derive(Debug, Clone)]
pub(super) struct Endpointer {
    rules: EndpointRules,
    seconds_per_frame: f64,
    /// dB; the first frame sets it.
    floor: f32,
    /// Frames in a row that were quiet.
    quiet: u64,
    /// Frames since the utterance began or was split.
    frames: u64,
}

/// By how much the noise floor rises, in dB a second.
const RISE: f32 = 3.0;

/// Level of digital silence, in dB.
const SILENCE_DB: f32 = -100.0;

/// The level of a mean square, in dB against a full-scale square wave.
pub(super) fn level(mean_square: f32) -> f32 {
    (10.0 * mean_square.max(1e-10).log10()).max(SILENCE_DB)
}

impl Endpointer {
    pub(super) fn new(rules: EndpointRules, seconds_per_frame: f64) -> Self {
        Self {
            rules,
            seconds_per_frame,
            floor: f32::INFINITY,
            quiet: 0,
            frames: 0,
        }
    }

    /// Takes in one output frame with its level in dB, the frames since the last token, and whether there is any.
    pub(super) fn frame(&mut self, level: f32, trailing_blanks: u64, said: bool) -> Verdict {
        self.floor = (self.floor + RISE * self.seconds_per_frame as f32).min(level);
        if level <= self.floor + self.rules.quiet_db {
            self.quiet += 1;
        } else {
            self.quiet = 0;
        }
        self.frames += 1;
        let seconds = |frames: u64| frames as f64 * self.seconds_per_frame;
        let blanks = seconds(trailing_blanks);
        let silence = seconds(trailing_blanks.min(self.quiet));
        if !said {
            return match blanks >= self.rules.nothing {
                true => Verdict::Restart,
                false => Verdict::Continue,
            };
        }
        if silence >= self.rules.silence || blanks >= self.rules.blanks {
            return Verdict::End;
        }
        match seconds(self.frames) >= self.rules.longest {
            true => Verdict::Split,
            false => Verdict::Continue,
        }
    }

    /// A new utterance begins with the next frame, or a new part of this one; what is known of the noise stays.
    pub(super) fn restart(&mut self) {
        self.frames = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: f64 = 0.02;
    const QUIET: f32 = -70.0;
    const LOUD: f32 = -20.0;

    /// The frame at which the rules first say something other than to go on.
    fn first(
        rules: EndpointRules,
        frames: impl Iterator<Item = (f32, u64, bool)>,
    ) -> (u64, Verdict) {
        let mut endpointer = Endpointer::new(rules, FRAME);
        for (at, (level, blanks, said)) in frames.enumerate() {
            let verdict = endpointer.frame(level, blanks, said);
            if verdict != Verdict::Continue {
                return (at as u64, verdict);
            }
        }
        (u64::MAX, Verdict::Continue)
    }

    #[test]
    fn each_rule_fires_at_its_time() {
        let rules = EndpointRules::default;
        // 1 s of speech, then blanks in quiet, in noise as loud as the speech, or nothing said at all.
        let speech = || (0..50).map(|_| (LOUD, 0, true));
        let after = |level: f32| (1..500).map(move |blanks| (level, blanks, true));
        let quiet = std::iter::once((QUIET, 0, false));
        let found = first(rules(), quiet.clone().chain(speech()).chain(after(QUIET)));
        assert_eq!(found, (50 + 60, Verdict::End));
        let found = first(rules(), quiet.chain(speech()).chain(after(LOUD)));
        assert_eq!(found, (50 + 120, Verdict::End));
        let found = first(rules(), (1..500).map(|blanks| (QUIET, blanks, false)));
        assert_eq!(found, (119, Verdict::Restart));
        let found = first(rules(), (0..5000).map(|_| (LOUD, 0, true)));
        assert_eq!(found, (999, Verdict::Split));
        let short = rules().with_silence(0.2);
        let found = first(short, speech().chain(after(QUIET)));
        assert_eq!(found, (50 + 9, Verdict::End));
    }

    #[test]
    fn the_floor_follows_a_noise_that_sets_in() {
        let mut endpointer = Endpointer::new(EndpointRules::default(), FRAME);
        for _ in 0..50 {
            endpointer.frame(QUIET, 0, true);
        }
        // 30 dB louder: after (30 - 12) / 3 = 6 seconds it counts as quiet.
        let loud: Vec<bool> = (0..400)
            .map(|_| {
                endpointer.frame(QUIET + 30.0, 0, true);
                endpointer.quiet == 0
            })
            .collect();
        let turn = loud.iter().position(|&loud| !loud);
        assert!((295..=305).contains(&turn.unwrap()), "{turn:?}");
    }

    #[test]
    fn senseless_rules_are_refused_by_name() {
        let cases = [
            (
                EndpointRules {
                    silence: 0.0,
                    ..Default::default()
                },
                "silence",
            ),
            (
                EndpointRules {
                    blanks: f64::NAN,
                    ..Default::default()
                },
                "blanks",
            ),
            (
                EndpointRules {
                    nothing: -1.0,
                    ..Default::default()
                },
                "nothing",
            ),
            (
                EndpointRules {
                    longest: 1e9,
                    ..Default::default()
                },
                "longest",
            ),
            (
                EndpointRules {
                    quiet_db: f32::NAN,
                    ..Default::default()
                },
                "quiet_db",
            ),
        ];
        for (rules, name) in cases {
            let error = rules.check().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(EndpointRules::default().check().is_ok());
        assert_eq!(level(0.0), SILENCE_DB);
        assert!((level(0.01) + 20.0).abs() < 1e-4);
    }
}

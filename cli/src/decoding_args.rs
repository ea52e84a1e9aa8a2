//! Options of every command that decodes.

use acolyte::Decoding;
use clap::Args;
use clap::builder::RangedU64ValueParser;

/// How scores become text.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Decoding")]
pub struct DecodingArgs {
    /// Search N prefixes at a time instead of taking the best token of each frame
    #[arg(long, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    beam: Option<usize>,
    /// Return the N best readings; needs --beam
    #[arg(long, value_name = "N", default_value_t = 1, requires_if("2..", "beam"),
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    nbest: usize,
    /// Take this off the blank's log-prob in every frame: above 0 brings more tokens, below 0 fewer
    #[arg(
        long,
        value_name = "NATS",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    blank_penalty: f32,
}

impl DecodingArgs {
    /// The settings these options mean.
    pub fn decoding(&self) -> Decoding {
        let mut decoding = self.beam.map_or_else(Decoding::greedy, Decoding::beam);
        decoding.n_best = self.nbest;
        decoding.blank_penalty = self.blank_penalty;
        decoding
    }
}

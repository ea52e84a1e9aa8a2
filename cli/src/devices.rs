//! `acolyte devices`: the microphones that the system knows.

use crate::Outcome;
use anyhow::Result;
use std::io::Write;

/// List the microphones that `acolyte listen --device` takes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object for each device
    #[arg(long)]
    json: bool,
}

/// What to do in a build without the microphone.
#[cfg(not(feature = "mic"))]
pub const NO_MICROPHONE: &str = "this build has no microphone: build it with `cargo build --release -p acolyte-cli \
                                 --features mic` (on Linux that needs ALSA's headers, package libasound2-dev), or \
                                 play a recording with `acolyte listen --input FILE`";

/// Runs the command.
#[cfg(feature = "mic")]
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Outcome> {
    for device in acolyte::capture::mic_devices()? {
        let format = device
            .format
            .map(|f| format!("{} Hz, {} channels", f.rate, f.channels));
        if args.json {
            let row = serde_json::json!({
                "id": device.id,
                "name": device.name,
                "default": device.is_default,
                "rate": device.format.map(|f| f.rate),
                "channels": device.format.map(|f| f.channels),
            });
            writeln!(out, "{row}")?;
        } else {
            let mark = if device.is_default { "*" } else { " " };
            let format = format.unwrap_or_else(|| "in use, or of no format it tells".into());
            writeln!(out, "{mark} {}\t{}\t{format}", device.id, device.name)?;
        }
    }
    Ok(Outcome::Done)
}

/// Runs the command.
#[cfg(not(feature = "mic"))]
pub fn run(args: &Args, _: &mut dyn Write) -> Result<Outcome> {
    let _ = args.json;
    anyhow::bail!("{NO_MICROPHONE}")
}

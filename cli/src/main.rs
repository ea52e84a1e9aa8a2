//! The command `acolyte`: transcribe recordings, listen, read images, watch a camera, adopt and inspect models, score
//! transcripts, measure.
//!
//! Results go to standard output, everything else to standard error. Exit code 0 means that all was done, 1
//! that something failed (the rest was still done), 2 that the command line was wrong.

mod adopt;
mod bench;
mod bench_crops;
mod bench_decode;
mod bench_faults;
mod bench_live;
mod bench_read;
mod clock;
mod compare;
mod decoding_args;
mod devices;
mod info;
mod interrupt;
mod listen;
mod model_args;
mod models;
mod read;
mod scan;
mod score;
mod srt;
#[cfg(test)]
mod testing;
mod transcribe;
mod tune;

use clap::{Parser, Subcommand};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// On-device recognition with distilled CTC students. Nothing leaves this machine.
#[derive(Debug, Parser)]
#[command(name = "acolyte", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Transcribe(transcribe::Args),
    Listen(listen::Args),
    Devices(devices::Args),
    Read(read::Args),
    Scan(scan::Args),
    Adopt(adopt::Args),
    Info(info::Args),
    Score(score::Args),
    Tune(tune::Args),
    Bench(bench::Args),
    Compare(compare::Args),
}

/// Whether everything asked for was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    SomeFailed,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr());
    let outcome = match &cli.command {
        Command::Transcribe(args) => transcribe::run(args, &mut out, &mut err),
        Command::Listen(args) => listen::run(args, &mut out, &mut err),
        Command::Devices(args) => devices::run(args, &mut out),
        Command::Read(args) => read::run(args, &mut out, &mut err),
        Command::Scan(args) => scan::run(args, &mut out, &mut err),
        Command::Adopt(args) => adopt::run(args, &mut out, &mut err),
        Command::Info(args) => info::run(args, &mut out),
        Command::Score(args) => score::run(args, &mut out),
        Command::Tune(args) => tune::run(args, &mut out),
        Command::Bench(args) => bench::run(args, &mut out),
        Command::Compare(args) => compare::run(args, &mut out),
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::FAILURE,
        // Whoever reads our output (`head`) has had enough.
        Err(error) if closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed too; there is nowhere left to say so.
            let _ = writeln!(err, "acolyte: {}", shown(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes; the runtime's own errors have named them in their text already.
fn shown(error: &anyhow::Error) -> String {
    match error.downcast_ref::<acolyte::Error>() {
        Some(error) => error.to_string(),
        None => format!("{error:#}"),
    }
}

fn closed(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let broken = std::io::Error::from(ErrorKind::BrokenPipe);
        assert!(closed(&broken.into()));
        assert!(!closed(
            &std::io::Error::from(ErrorKind::StorageFull).into()
        ));
    }
}

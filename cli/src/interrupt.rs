//! Ctrl-C: asked once, a command ends cleanly and delivers its last words; asked twice, it ends at once.

use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a command was asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for Ctrl-C from here on; once in a process.
    pub fn listen() -> Result<Self> {
        let interrupt = Self::default();
        let asked = interrupt.0.clone();
        ctrlc::set_handler(move || {
            // Who asks twice does not want to wait for the last words.
            if asked.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(interrupt)
    }

    /// Whether Ctrl-C was pressed.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

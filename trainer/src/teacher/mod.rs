//! Teachers: networks that guide students, and what they must show before they may.
//!
//! An [`OracleTeacher`] sees the audio and its transcript (arXiv 2111.03664); a conventional teacher is a
//! [`crate::student::speech::SpeechStudent`], symmetric and perhaps larger. What is known of the Oracle Teacher's
//! construction is little; this is our reading of it. [`ask`] runs a trained teacher, [`align`] reads where its
//! spikes stand, [`guards`] tells one that listens from one that copies.

pub mod align;
pub mod ask;
pub mod guards;
mod oracle;

pub use oracle::OracleTeacher;

//! The proof: equal students, data, steps and tuning for every way of guiding them, and tables of what came out.
//!
//! A proof file ([`ProofFile`]) holds one recipe, the arms as what each changes in it, and how speakers are parted.
//! [`run()`] trains what is not done yet, in an order in which every arm advances alike, and appends one JSON line a
//! finished run to a file that is committed; [`table()`] computes all figures from those lines alone.

mod bootstrap;
mod file;
mod keep;
mod picture;
mod record;
mod run;
mod split;
mod table;

pub use bootstrap::Paired;
pub use file::{Arm, Group, ProofFile, Split, TestPart};
pub use picture::budgets;
pub use record::{Outcome, Record, Speaker, load};
pub use run::{Event, ProofSetup, run};
pub use split::{Parts, part};
pub use table::{Row, Tables, page, table};

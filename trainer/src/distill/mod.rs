//! Distillation: losses by which a student learns from a teacher, or from itself, beside its own CTC loss.
//!
//! The whole loss of a step is `ctc L_ctc + sum_i w_i(t) L_i`, each part in units per output frame of the row; the
//! weights come from the recipe and may move in a straight line over the run. With p the teacher's posteriors, q the
//! student's, N the frames of the row, tau a temperature, F the frames an objective looks at:
//!
//! | objective | L | source |
//! |---|---|---|
//! | `kl` | `tau^2/N sum_{t in F} KL(p^tau[t], q^tau[t])` | Hinton et al., arXiv 1503.02531 |
//! | `l2` | `1/N sum_{t in F} norm2(p^tau[t] - q^tau[t])` | TutorNet (Yoon et al., arXiv 2008.00671): spiky posteriors make KL unstable |
//! | `guided-ctc` | `-1/N sum_t q[t, argmax p[t]]` where that is no blank | Kurata and Audhkhasi, arXiv 1904.08311 |
//! | `sequence` | `-1/N sum_y w(y) ln P(y)` over the N best readings of the teacher, w their shares | Takashima et al., ICASSP 2018 |
//! | `hidden` | `1/(N C) sum_{t in F} norm2(h_T[t] - W h_S[t])`, W learned | FitNets, arXiv 1412.6550; TutorNet's first stage |
//! | `intermediate-ctc` | CTC of a head at an inner block | Lee and Watanabe, arXiv 2102.03216 |
//! | any of these with `layer` | the same, at such a head | Inter-KD (Yoon et al., arXiv 2211.15075) |
//! | `consistency` | `1/2N sum_t KL(a[t], b[t]) + KL(b[t], a[t])`, the first operand held fixed, a and b two augmented views | CR-CTC (Yao et al., arXiv 2410.05101) |
//!
//! Guidance is frame by frame, so teacher and student share their output rate; a causal student may lag by
//! `delay_frames` (target delay; Kurata and Saon, Interspeech 2020). What the teacher says comes from a [`Guide`]:
//! kept from one pass over the clean recordings, or asked at every step.

mod guide;
mod keep;
mod objectives;
mod picture;
mod report;
pub mod stages;
mod step;
#[cfg(test)]
mod tests;

pub use guide::{Guidance, Guide, occupancies};
pub use keep::prepare;
pub(crate) use keep::questions;
pub use objectives::{Inputs, Objective, Site, objective};
pub use step::Distillation;

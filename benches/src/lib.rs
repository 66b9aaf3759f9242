//! The round-robin harness and the hand-written loops that coring is measured against.
//!
//! Cores of a shared machine change their speed within seconds, so two servers measured one after
//! the other cannot be compared. [`round_robin`] keeps all servers up and drives each for a tenth
//! of a second in turn; [`compare`] does the same for closures without a peer. Both report ratios
//! within a cycle, which the drift cancels out of.
#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures real time and stands outside every runtime"
)]

pub mod cases;
mod harness;
pub mod raw;
pub mod servers;

pub use harness::affinity::{CLIENT_CORE, SERVER_CORE, pin_to, thread_id};
pub use harness::child::{Cost, as_client, cost_of, run_child};
pub use harness::compare::{Case, Comparison, Measurement, Schedule, Spent, compare};
pub use harness::cpu::Account;
pub use harness::host::Host;
pub use harness::options::{Groups, Local, Options, Serve, groups_and_schedule, serve_if_told};
pub use harness::pairs::{pair, peer, spent};
pub use harness::report::{Report, Sample};
pub use harness::rival::Rival;
pub use harness::round_robin::{Request, Workload, round_robin};
pub use harness::server::{Listening, Server};
pub use harness::stats::Spread;
pub use harness::table::render;

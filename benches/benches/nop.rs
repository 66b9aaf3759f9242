//! NOPs through the ring, 64 to an enter: the raw loop and coring.

use coring::Runner;
use coring_benches::cases::coring as ours;
use coring_benches::raw::{Turns, nops, ring};

mod support;

const BATCH: u64 = 64;

fn main() {
    let mut criterion = support::criterion();
    let mut ring = ring().expect("io_uring");
    let mut turns = Turns::new(&mut ring).expect("a registered ring");
    let mut runner = Runner::builder().build().expect("a driver");
    let mut group = criterion.benchmark_group("nop");
    // A batch an iteration: what is printed is the time of 64.
    support::case(&mut group, "raw ring", |n| {
        nops::run(&mut turns, BATCH as u32, n * BATCH)
    });
    support::case(&mut group, "coring", |n| {
        ours::nops(&mut runner, BATCH, n * BATCH)
    });
    group.finish();
    criterion.final_summary();
}

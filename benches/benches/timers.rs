//! Sleeps: armed and cancelled, or fired, beside others in coring's modes; many at once on both.

use std::time::Duration;

use coring::{Runner, Timers};
use coring_benches::cases::sleepers::Coring;
use coring_benches::cases::{coring as ours, tokio as theirs};

mod support;

const BATCH: usize = 8;
const MANY: u64 = 1_000;

fn main() {
    let mut criterion = support::criterion();
    for others in [0, 64, 1_024] {
        // What is printed is the time of eight.
        let name = format!("arm and cancel 8 beside {others}");
        let mut group = criterion.benchmark_group(name);
        for mode in [Timers::Kernel, Timers::Heap] {
            let mut coring = Coring::new(mode, others).expect("a driver");
            support::case(&mut group, &format!("coring, {mode:?}"), |n| {
                coring.cancel::<BATCH>(n * BATCH as u64)
            });
        }
        group.finish();
    }
    let mut runner = Runner::builder().build().expect("a driver");
    let tokio = theirs::runtime().expect("a runtime");
    // What is printed has the sleep's own millisecond in it.
    let mut group = criterion.benchmark_group("1000 sleeps of 1 ms at once");
    let span = Duration::from_millis(1);
    support::case(&mut group, "tokio", |n| {
        (0..n).try_for_each(|_| theirs::sleeps(&tokio, span, MANY))
    });
    support::case(&mut group, "coring", |n| {
        (0..n).try_for_each(|_| ours::sleeps(&mut runner, span, MANY))
    });
    group.finish();
    criterion.final_summary();
}

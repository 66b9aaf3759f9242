//! Making a task and awaiting it: tokio and coring.

use coring::Runner;
use coring_benches::cases::{BATCH, coring as ours, tokio as theirs};

mod support;

fn main() {
    let mut criterion = support::criterion();
    let mut runner = Runner::builder().build().expect("a driver");
    let tokio = theirs::runtime().expect("a runtime");
    let mut group = criterion.benchmark_group("spawn, one by one");
    support::case(&mut group, "tokio", |n| theirs::spawn(&tokio, n));
    support::case(&mut group, "coring", |n| ours::spawn(&mut runner, n));
    group.finish();
    // What is printed is the time of a thousand.
    let mut group = criterion.benchmark_group("spawn, 1000 at a time");
    support::case(&mut group, "tokio", |n| {
        theirs::spawn_batch(&tokio, n * BATCH)
    });
    support::case(&mut group, "coring", |n| {
        ours::spawn_batch(&mut runner, n * BATCH)
    });
    group.finish();
    criterion.final_summary();
}

//! Wakes: yields among a thousand tasks, two tasks that answer each other, two threads that do.

use coring::Runner;
use coring_benches::cases::threads::{Parker, Peer};
use coring_benches::cases::{YIELDERS, coring as ours, pingpong, tokio as theirs};

mod support;

fn main() {
    let mut criterion = support::criterion();
    let mut runner = Runner::builder().build().expect("a driver");
    let tokio = theirs::runtime().expect("a runtime");
    // What is printed is the time of a thousand.
    let mut group = criterion.benchmark_group("yield, 1000 tasks");
    support::case(&mut group, "tokio", |n| {
        theirs::yields(&tokio, n * YIELDERS)
    });
    support::case(&mut group, "coring", |n| {
        ours::yields(&mut runner, n * YIELDERS)
    });
    group.finish();
    let mut group = criterion.benchmark_group("ping-pong, futures-channel");
    support::case(&mut group, "tokio", |n| theirs::pingpong(&tokio, n));
    support::case(&mut group, "coring", |n| ours::pingpong(&mut runner, n));
    support::case(&mut group, "no runtime", pingpong::without_runtime);
    group.finish();
    let mut group = criterion.benchmark_group("ping-pong, a local queue");
    support::case(&mut group, "tokio", |n| theirs::pingpong_local(&tokio, n));
    support::case(&mut group, "coring", |n| {
        ours::pingpong_local(&mut runner, n)
    });
    group.finish();
    let mut group = criterion.benchmark_group("ping-pong, two threads");
    let mut peer = Peer::tokio();
    support::case(&mut group, "tokio", |n| peer.ask_from_tokio(&tokio.0, n));
    let mut peer = Peer::coring();
    support::case(&mut group, "coring", |n| {
        peer.ask_from_coring(&mut runner, n)
    });
    let parker = Parker::start();
    support::case(&mut group, "park and unpark", |n| parker.ask(n));
    group.finish();
    criterion.final_summary();
}

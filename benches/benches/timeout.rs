//! What a limit adds: around what is ready, what is woken, and a read that has to wait.

use coring::Runner;
use coring_benches::cases::recv::{Coring, Limit, Tokio};
use coring_benches::cases::{coring as ours, tokio as theirs};
use coring_benches::raw::recv_timeout::Pair;
use coring_benches::raw::{Turns, ring};

mod support;

fn main() {
    let mut criterion = support::criterion();
    let mut ring = ring().expect("io_uring");
    let mut turns = Turns::new(&mut ring).expect("a registered ring");
    let mut runner = Runner::builder().build().expect("a driver");
    let tokio = theirs::runtime().expect("a runtime");
    let mut group = criterion.benchmark_group("timeout, ready");
    support::case(&mut group, "tokio", |n| theirs::timeout_ready(&tokio, n));
    support::case(&mut group, "coring", |n| {
        ours::timeout_ready(&mut runner, n)
    });
    group.finish();
    for (name, limited) in [("timeout, woken", true), ("no timeout, woken", false)] {
        let mut group = criterion.benchmark_group(name);
        support::case(&mut group, "tokio", |n| {
            theirs::timeout_woken(&tokio, limited, n)
        });
        support::case(&mut group, "coring", |n| {
            ours::timeout_woken(&mut runner, limited, n)
        });
        group.finish();
    }
    let mut group = criterion.benchmark_group("a read that waits");
    for (name, bounded) in [("raw ring", false), ("raw ring, LINK_TIMEOUT", true)] {
        let mut pair = Pair::new().expect("sockets");
        support::case(&mut group, name, |n| {
            pair.run(&mut turns, false, bounded, n)
        });
    }
    for (name, limit) in [
        ("coring", Limit::None),
        ("coring, wait_for", Limit::WaitFor),
    ] {
        let mut pair = Coring::new().expect("sockets");
        support::case(&mut group, name, |n| {
            pair.read(&mut runner, false, limit, n)
        });
    }
    for (name, limit) in [("tokio", Limit::None), ("tokio, timeout", Limit::Timeout)] {
        let mut pair = Tokio::new(&tokio.0).expect("sockets");
        support::case(&mut group, name, |n| pair.read(&tokio.0, false, limit, n));
    }
    group.finish();
    criterion.final_summary();
}

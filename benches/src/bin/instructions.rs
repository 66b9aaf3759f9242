//! How many instructions does a piece of work take in user space?
//!
//! Counted by valgrind's callgrind, so the figures are the same however busy the machine is. It does
//! not show the kernel's side, nor what caches and branches cost. A look at the clock is a system call
//! under valgrind, so its own instructions are not counted, for whoever looks.

use std::error::Error;
use std::io;
use std::process::Command;

use coring::Runner;
use coring_benches::cases::recv::{self, Limit};
use coring_benches::cases::{coring as ours, tokio as theirs};
use coring_benches::{Host, render};

const USAGE: &str = "\
instructions     (needs valgrind)";

/// The work is done so often, and once more twice as often: the difference has no start-up in it.
const TIMES: u64 = 16_000;

const CASES: [&str; 9] = [
    "nop, 64 at a time",
    "a task, one by one",
    "a task, 1,000 at a time",
    "yield among 1,000 tasks",
    "timeout around what is ready",
    "a yield",
    "wait_for around a yield",
    "a read that is ready",
    "wait_for around a read that is ready",
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--child", runtime, case, times] => return child(runtime, case, times.parse()?),
        _ => return Err(USAGE.into()),
    }
    let heading = ["case", "coring", "tokio"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for case in CASES {
        let mut row = vec![case.to_owned()];
        for runtime in ["coring", "tokio"] {
            let (once, twice) = (
                count(runtime, case, TIMES)?,
                count(runtime, case, 2 * TIMES)?,
            );
            row.push(match twice.saturating_sub(once) as f64 / TIMES as f64 {
                0.0 => "n/a".to_owned(),
                each => format!("{each:.0}"),
            });
        }
        rows.push(row);
    }
    print!("{}{}", Host::here(), render(&rows));
    Ok(())
}

/// The instructions of a child, start-up and all.
fn count(runtime: &str, case: &str, times: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--child", runtime, case, &times.to_string()])
        .output()?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    match collected {
        Some((_, count)) if output.status.success() => Ok(count.trim().parse()?),
        _ => Err(format!("{runtime}, {case}: {report}").into()),
    }
}

fn child(runtime: &str, case: &str, times: u64) -> Result<(), Box<dyn Error>> {
    if runtime == "coring" {
        coring(&mut Runner::builder().build()?, case, times)?;
    } else {
        tokio(case, times)?;
    }
    Ok(())
}

fn coring(runner: &mut Runner, case: &str, n: u64) -> io::Result<()> {
    let read = |runner: &mut Runner, limit| recv::Coring::new()?.read(runner, true, limit, n);
    match CASES.iter().position(|&known| known == case) {
        Some(0) => ours::nops(runner, 64, n),
        Some(1) => ours::spawn(runner, n),
        Some(2) => ours::spawn_batch(runner, n),
        Some(3) => ours::yields(runner, n),
        Some(4) => ours::timeout_ready(runner, n),
        Some(5) => ours::timeout_woken(runner, false, n),
        Some(6) => ours::timeout_woken(runner, true, n),
        Some(7) => read(runner, Limit::None),
        Some(8) => read(runner, Limit::WaitFor),
        _ => Err(io::Error::other(USAGE)),
    }
}

fn tokio(case: &str, n: u64) -> io::Result<()> {
    let runtime = theirs::runtime()?;
    let read = |limit| recv::Tokio::new(&runtime.0)?.read(&runtime.0, true, limit, n);
    match CASES.iter().position(|&known| known == case) {
        Some(0) => Ok(()),
        Some(1) => theirs::spawn(&runtime, n),
        Some(2) => theirs::spawn_batch(&runtime, n),
        Some(3) => theirs::yields(&runtime, n),
        Some(4) => theirs::timeout_ready(&runtime, n),
        Some(5) => theirs::timeout_woken(&runtime, false, n),
        Some(6) => theirs::timeout_woken(&runtime, true, n),
        Some(7) => read(Limit::None),
        Some(8) => read(Limit::Timeout),
        _ => Err(io::Error::other(USAGE)),
    }
}

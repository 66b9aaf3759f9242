//! What does a runtime itself cost: operations, tasks, wakes, limits and sleeps without a peer?
//!
//! coring, tokio and the raw ring loop in shuffled windows of one run. It does not show I/O, but
//! for `recv`, where a limit around a read is the question.

use std::cell::RefCell;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use coring::{Runner, Timers};
use coring_benches::cases::recv::Limit;
use coring_benches::cases::threads::{Parker, Peer};
use coring_benches::cases::{coring as ours, pingpong, recv, tokio as theirs};
use coring_benches::raw::{Turns, msg_ring, nops, recv_timeout, ring};
use coring_benches::{Case, Host, Schedule, compare, cost_of, render, run_child};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

const USAGE: &str = "\
tasks [nop,spawn,many,yield,pingpong,threads,timeout,recv,sleep] [--cycles 40]
      [--window-ms 20] [--csv FILE]";

const GROUPS: [&str; 9] = [
    "nop", "spawn", "many", "yield", "pingpong", "threads", "timeout", "recv", "sleep",
];

/// Whose difference a table is followed by.
const PAIRS: [(&str, &str); 13] = [
    ("coring, wait_for, woken", "coring, no limit"),
    ("tokio, timeout, woken", "tokio, no limit"),
    ("waits: raw, LINK_TIMEOUT", "waits: raw"),
    ("waits: coring, wait_for", "waits: coring"),
    ("waits: coring, timeout", "waits: coring"),
    ("waits: coring, heap, wait_for", "waits: coring, heap"),
    ("waits: tokio, timeout", "waits: tokio"),
    ("ready: raw, LINK_TIMEOUT", "ready: raw"),
    ("ready: coring, wait_for", "ready: coring"),
    ("ready: coring, timeout", "ready: coring"),
    ("ready: coring, heap, wait_for", "ready: coring, heap"),
    ("ready: tokio, timeout", "ready: tokio"),
    ("coring", "raw ring"),
];

/// Tasks that all are there at once, and how often that is measured.
const MANY: u64 = 1_000_000;
const MANY_RUNS: u32 = 5;
const NOPS: u64 = 64;
/// Operations at a time where they are made in batches: fewer than a batch would be rounded up.
const BATCHED: u64 = 64_000;
const SLEEPS: u64 = 10_000;
const SLEEP: Duration = Duration::from_millis(1);

/// The runtimes, made once for all groups.
struct Runtimes<'ring> {
    coring: RefCell<Runner>,
    /// With limits in the heap.
    heap: RefCell<Runner>,
    tokio: (Runtime, LocalSet),
    turns: RefCell<Turns<'ring>>,
    /// The descriptor of the ring of `turns`.
    ring: RawFd,
}

fn main() -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;

    let mut groups = GROUPS.map(str::to_owned).to_vec();
    let mut schedule = Schedule {
        window: Duration::from_millis(20),
        ..Schedule::default()
    };
    let mut csv: Option<PathBuf> = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(value) => groups = value.string()?.split(',').map(str::to_owned).collect(),
            Long("cycles") => schedule.cycles = parser.value()?.parse()?,
            Long("window-ms") => {
                schedule.window = Duration::from_millis(parser.value()?.parse()?);
            }
            Long("csv") => csv = Some(parser.value()?.into()),
            Long("child") => return child(&parser.value()?.string()?),
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(());
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    let mut csv = csv.map(File::create).transpose()?.map(BufWriter::new);
    let mut ring = ring()?;
    let runtimes = Runtimes {
        ring: ring.as_raw_fd(),
        coring: RefCell::new(Runner::builder().build()?),
        heap: RefCell::new(Runner::builder().timers(Timers::Heap).build()?),
        tokio: theirs::runtime()?,
        turns: RefCell::new(Turns::new(&mut ring)?),
    };
    for group in &groups {
        if group == "many" {
            let rows = many()?;
            println!("{}{}", Host::here(), render(&rows));
            if let Some(csv) = &mut csv {
                write!(csv, "{}", Host::here())?;
                for row in rows {
                    writeln!(csv, "{}", row.join(","))?;
                }
            }
            continue;
        }
        let comparison = match group.as_str() {
            "threads" => {
                // Its thread sleeps in a ring: it is told to end, whatever happened meanwhile.
                let raw = msg_ring::Peer::start(runtimes.ring)?;
                let comparison = compare(&mut threads(&runtimes, &raw), schedule);
                raw.stop(&mut runtimes.turns.borrow_mut())?;
                comparison
            }
            "recv" => compare(&mut receives(&runtimes)?, schedule),
            group => compare(&mut runtimes.cases(group)?, schedule),
        }?;
        println!("{}", comparison.table(&comparison.cases[0]));
        let differences = comparison.differences(&PAIRS);
        if differences.lines().count() > 1 {
            println!("{differences}");
        }
        if let Some(csv) = &mut csv {
            comparison.write_csv(csv)?;
        }
    }
    Ok(())
}

/// A million tasks, in a process of their own for each runtime.
fn many() -> Result<Vec<Vec<String>>, Box<dyn Error>> {
    let heading = ["runtime", "tasks", "run", "CPU ns/task", "resident MB"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for run in 0..MANY_RUNS {
        for runtime in ["coring", "tokio"] {
            let mut row = vec![runtime.to_owned(), MANY.to_string(), run.to_string()];
            row.extend(run_child(&[runtime])?);
            rows.push(row);
        }
    }
    Ok(rows)
}

/// One measurement of [`many`]. Prints its figures.
fn child(runtime: &str) -> Result<(), Box<dyn Error>> {
    let ((), cost) = if runtime == "coring" {
        let mut runner = Runner::builder().build()?;
        cost_of(|| ours::spawn_all(&mut runner, MANY))?
    } else {
        let runtime = theirs::runtime()?;
        cost_of(|| theirs::spawn_all(&runtime, MANY))?
    };
    println!(
        "{:.1} {:.1}",
        cost.cpu_ns as f64 / MANY as f64,
        cost.resident_bytes as f64 / 1e6
    );
    Ok(())
}

impl Runtimes<'_> {
    fn ours<'a>(
        &'a self,
        name: &str,
        run: impl Fn(&mut Runner, u64) -> io::Result<()> + 'a,
    ) -> Case<'a> {
        Case::new(name, move |n| run(&mut self.coring.borrow_mut(), n))
    }

    fn theirs<'a>(
        &'a self,
        name: &str,
        run: impl Fn(&(Runtime, LocalSet), u64) -> io::Result<()> + 'a,
    ) -> Case<'a> {
        Case::new(name, move |n| run(&self.tokio, n))
    }

    /// The cases of one table; the first is the baseline of its ratios.
    fn cases(&self, group: &str) -> Result<Vec<Case<'_>>, Box<dyn Error>> {
        Ok(match group {
            "nop" => vec![
                Case::new("raw ring", |n| {
                    nops::run(&mut self.turns.borrow_mut(), NOPS as u32, n)
                })
                .times(BATCHED),
                self.ours("coring", |runner, n| ours::nops(runner, NOPS, n))
                    .times(BATCHED),
            ],
            "spawn" => vec![
                self.theirs("tokio LocalSet, one by one", theirs::spawn),
                self.theirs("tokio spawn, one by one", theirs::spawn_sent),
                self.ours("coring, one by one", ours::spawn),
                self.theirs("tokio LocalSet, 1,000 at a time", theirs::spawn_batch)
                    .times(BATCHED),
                self.theirs("tokio spawn, 1,000 at a time", theirs::spawn_batch_sent)
                    .times(BATCHED),
                self.ours("coring, 1,000 at a time", ours::spawn_batch)
                    .times(BATCHED),
            ],
            "yield" => vec![
                self.theirs("tokio", theirs::yields).times(BATCHED),
                self.ours("coring", ours::yields).times(BATCHED),
            ],
            "pingpong" => vec![
                self.theirs("tokio, futures-channel", theirs::pingpong),
                self.ours("coring, futures-channel", ours::pingpong),
                Case::new("futures-channel alone", pingpong::without_runtime),
                self.theirs("tokio, a local queue", theirs::pingpong_local),
                self.ours("coring, a local queue", ours::pingpong_local),
            ],
            "timeout" => vec![
                self.theirs("tokio, ready", theirs::timeout_ready),
                self.ours("coring, ready", ours::timeout_ready),
                self.theirs("tokio, timeout, woken", |tokio, n| {
                    theirs::timeout_woken(tokio, true, n)
                }),
                self.theirs("tokio, no limit", |tokio, n| {
                    theirs::timeout_woken(tokio, false, n)
                }),
                self.ours("coring, wait_for, woken", |runner, n| {
                    ours::timeout_woken(runner, true, n)
                }),
                self.ours("coring, no limit", |runner, n| {
                    ours::timeout_woken(runner, false, n)
                }),
            ],
            "sleep" => vec![
                Case::sized("tokio", SLEEPS, |n| theirs::sleeps(&self.tokio, SLEEP, n)),
                Case::sized("coring", SLEEPS, |n| {
                    ours::sleeps(&mut self.coring.borrow_mut(), SLEEP, n)
                }),
            ],
            _ => return Err(USAGE.into()),
        })
    }
}

/// Round trips between two threads. The CPU time is that of both.
fn threads<'a>(runtimes: &'a Runtimes<'_>, raw: &'a msg_ring::Peer) -> Vec<Case<'a>> {
    let (mut coring, mut tokio, parker) = (Peer::coring(), Peer::tokio(), Parker::start());
    vec![
        Case::new("tokio", move |n| tokio.ask_from_tokio(&runtimes.tokio.0, n)),
        Case::new("coring", move |n| {
            coring.ask_from_coring(&mut runtimes.coring.borrow_mut(), n)
        }),
        Case::new("raw MSG_RING", |n| {
            raw.ask(&mut runtimes.turns.borrow_mut(), n)
        }),
        Case::new("park and unpark", move |n| parker.ask(n)),
    ]
}

/// Reads that wait, or find their byte there, with a limit around them or none.
fn receives<'a>(runtimes: &'a Runtimes<'_>) -> io::Result<Vec<Case<'a>>> {
    let mut cases = Vec::new();
    for (ready, when) in [(false, "waits"), (true, "ready")] {
        for (bounded, how) in [(false, "raw"), (true, "raw, LINK_TIMEOUT")] {
            let mut pair = recv_timeout::Pair::new()?;
            cases.push(Case::new(&format!("{when}: {how}"), move |n| {
                pair.run(&mut runtimes.turns.borrow_mut(), ready, bounded, n)
            }));
        }
        for (limit, how, runner) in [
            (Limit::None, "coring", &runtimes.coring),
            (Limit::WaitFor, "coring, wait_for", &runtimes.coring),
            (Limit::Timeout, "coring, timeout", &runtimes.coring),
            (Limit::None, "coring, heap", &runtimes.heap),
            (Limit::WaitFor, "coring, heap, wait_for", &runtimes.heap),
        ] {
            let mut pair = recv::Coring::new()?;
            cases.push(Case::new(&format!("{when}: {how}"), move |n| {
                pair.read(&mut runner.borrow_mut(), ready, limit, n)
            }));
        }
        for (limit, how) in [(Limit::None, "tokio"), (Limit::Timeout, "tokio, timeout")] {
            let mut pair = recv::Tokio::new(&runtimes.tokio.0)?;
            cases.push(Case::new(&format!("{when}: {how}"), move |n| {
                pair.read(&runtimes.tokio.0, ready, limit, n)
            }));
        }
    }
    Ok(cases)
}

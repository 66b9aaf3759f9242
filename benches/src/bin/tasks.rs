//! What does a runtime itself cost: operations, tasks, wakes, limits and sleeps without a peer?
//!
//! coring, tokio and the raw ring loop in shuffled windows of one run. It does not show I/O.
#![expect(clippy::print_stdout, reason = "the table is this program's output")]

use std::cell::RefCell;
use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::Duration;

use coring::Runner;
use coring_benches::cases::{coring as ours, tokio as theirs};
use coring_benches::raw::{Turns, nops, ring};
use coring_benches::{Case, Schedule, compare};

const USAGE: &str = "\
tasks [nop,spawn,yield,timeout,sleep] [--cycles 40] [--window-ms 20] [--csv FILE]";

const NOPS: u64 = 64;
const SLEEPS: u64 = 10_000;
const SLEEP: Duration = Duration::from_millis(1);

fn main() -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;

    let mut groups: Vec<String> =
        ["nop", "spawn", "yield", "timeout", "sleep"].map(str::to_owned).to_vec();
    let mut schedule = Schedule { window: Duration::from_millis(20), ..Schedule::default() };
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
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(());
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    let mut csv = csv.map(File::create).transpose()?.map(BufWriter::new);
    let runner = RefCell::new(Runner::builder().build()?);
    let tokio = theirs::runtime()?;
    let mut ring = ring()?;
    let turns = RefCell::new(Turns::new(&mut ring)?);
    for group in &groups {
        let ours = |name: &str, f: fn(&mut Runner, u64) -> std::io::Result<()>| {
            let runner = &runner;
            Case::new(name, move |n| f(&mut runner.borrow_mut(), n))
        };
        let tokio = &tokio;
        let mut cases = match group.as_str() {
            "nop" => vec![
                Case::new("raw ring", |n| nops::run(&mut turns.borrow_mut(), NOPS as u32, n)),
                ours("coring", |runner, n| ours::nops(runner, NOPS, n)),
            ],
            "spawn" => vec![
                Case::new("tokio, one by one", move |n| theirs::spawn(tokio, n)),
                ours("coring, one by one", ours::spawn),
                Case::new("tokio, 1,000 at a time", move |n| theirs::spawn_batch(tokio, n)),
                ours("coring, 1,000 at a time", ours::spawn_batch),
            ],
            "yield" => vec![
                Case::new("tokio", move |n| theirs::yields(tokio, n)),
                ours("coring", ours::yields),
            ],
            "timeout" => vec![
                Case::new("tokio, ready", move |n| theirs::timeout_ready(tokio, n)),
                ours("coring, ready", ours::timeout_ready),
                Case::new("tokio, woken", move |n| theirs::timeout_woken(tokio, true, n)),
                Case::new("tokio, no limit", move |n| theirs::timeout_woken(tokio, false, n)),
                ours("coring, woken", |runner, n| ours::timeout_woken(runner, true, n)),
                ours("coring, no limit", |runner, n| ours::timeout_woken(runner, false, n)),
            ],
            "sleep" => vec![
                Case::sized("tokio", SLEEPS, move |n| theirs::sleeps(tokio, SLEEP, n)),
                Case::sized("coring", SLEEPS, |n| ours::sleeps(&mut runner.borrow_mut(), SLEEP, n)),
            ],
            _ => return Err(USAGE.into()),
        };
        let comparison = compare(&mut cases, schedule)?;
        println!("{}", comparison.table(&comparison.cases[0]));
        if let Some(csv) = &mut csv {
            comparison.write_csv(csv)?;
        }
    }
    Ok(())
}

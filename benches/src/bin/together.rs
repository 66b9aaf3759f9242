//! What do groups, gathers, locks, queues and cancels cost, on coring and on tokio?
//!
//! In shuffled windows of one run. It does not show I/O, nor more than one thread: `tokio::sync` is
//! made for that, and pays for it here.

use std::cell::RefCell;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::time::Duration;

use coring::Runner;
use coring_benches::cases::together::{CANCELLED, MANY, ours, theirs};
use coring_benches::cases::tokio::runtime;
use coring_benches::{Case, Schedule, compare};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

const USAGE: &str = "\
together [group,gather,gather-tasks,lock,contended,semaphore,queue,cancel] [--cycles 40] [--window-ms 20]
         [--csv FILE]";

type Ours = fn(&mut Runner, u64) -> io::Result<()>;
type Theirs = fn(&(Runtime, LocalSet), u64) -> io::Result<()>;

/// A table each: operations at a time (0: as it comes), tokio's function, coring's.
const GROUPS: [(&str, u64, Theirs, Ours); 8] = [
    ("group", 10 * MANY, theirs::group, ours::group),
    ("gather", 10 * MANY, theirs::gather, ours::gather),
    (
        "gather-tasks",
        10 * MANY,
        theirs::gather_tasks,
        ours::gather_tasks,
    ),
    ("lock", 0, theirs::lock, ours::lock),
    (
        "contended",
        10 * MANY,
        theirs::lock_contended,
        ours::lock_contended,
    ),
    ("semaphore", 0, theirs::semaphore, ours::semaphore),
    ("queue", 0, theirs::queue, ours::queue),
    ("cancel", CANCELLED, theirs::cancel, ours::cancel),
];

fn main() -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;

    let mut wanted: Option<Vec<String>> = None;
    let mut schedule = Schedule {
        window: Duration::from_millis(20),
        ..Schedule::default()
    };
    let mut csv: Option<PathBuf> = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(value) => {
                wanted = Some(value.string()?.split(',').map(str::to_owned).collect());
            }
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
    let coring = RefCell::new(Runner::builder().build()?);
    let tokio = runtime()?;
    for (group, size, tokios, corings) in GROUPS {
        if wanted
            .as_ref()
            .is_some_and(|wanted| !wanted.iter().any(|name| name == group))
        {
            continue;
        }
        let mut cases = vec![
            sized(format!("{group}: tokio"), size, |n| tokios(&tokio, n)),
            sized(format!("{group}: coring"), size, |n| {
                corings(&mut coring.borrow_mut(), n)
            }),
        ];
        if group == "cancel" {
            let abort = sized("cancel: tokio, abort".to_owned(), size, |n| {
                theirs::abort(&tokio, n)
            });
            cases.push(abort);
        }
        let comparison = compare(&mut cases, schedule)?;
        println!("{}", comparison.table(&comparison.cases[0]));
        if let Some(csv) = &mut csv {
            comparison.write_csv(csv)?;
        }
    }
    Ok(())
}

fn sized<'a>(name: String, size: u64, run: impl FnMut(u64) -> io::Result<()> + 'a) -> Case<'a> {
    if size == 0 {
        Case::new(&name, run)
    } else {
        Case::sized(&name, size, run)
    }
}

//! What do groups, gathers, locks, queues and cancels cost, on coring, tokio and the rivals?
//!
//! In shuffled windows of one run. It does not show I/O, but for reads with a limit beside the
//! rivals, nor more than one thread: `tokio::sync` is made for that, and pays for it here.

use std::cell::RefCell;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coring::Runner;
use coring_benches::cases::recv::{self, Limit};
use coring_benches::cases::together::{CANCELLED, MANY, ours, theirs};
use coring_benches::cases::tokio::runtime;
use coring_benches::cases::{coring as our_tasks, tokio as their_tasks};
use coring_benches::{Case, Comparison, Measurement, Rival, Schedule, compare, render};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

const USAGE: &str = "\
together [group,gather,gather-tasks,lock,contended,semaphore,queue,cancel] [--cycles 40] [--window-ms 20]
         [--csv FILE] [--rivals[=FOLDER]]

--rivals adds the programs of benches/rivals, built with `cargo build --release` there, FOLDER is
where they are; the tables spawn, spawn-many, yield, timeout, read-ready and read-waits; and after
all tables what coring takes over each other, within a cycle.";

/// The programs of benches/rivals; those that are not built are left out with a note.
const RIVALS: [&str; 4] = ["monoio", "glommio", "compio", "smol"];

type Ours = fn(&mut Runner, u64) -> io::Result<()>;
type Theirs = fn(&(Runtime, LocalSet), u64) -> io::Result<()>;

type Group = (&'static str, u64, Theirs, Ours);

/// A table each: operations at a time (0: as it comes), tokio's function, coring's. A rival that
/// has one has it under the same name.
const GROUPS: [Group; 8] = [
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

/// What `tasks` has without the rivals, and measures more of. A read makes its sockets anew each
/// time, as the rivals do, so that there must be many.
const BESIDE_RIVALS: [Group; 6] = [
    ("spawn", 0, their_tasks::spawn, our_tasks::spawn),
    (
        "spawn-many",
        10 * MANY,
        their_tasks::spawn_batch,
        our_tasks::spawn_batch,
    ),
    ("yield", 64 * MANY, their_tasks::yields, our_tasks::yields),
    (
        "timeout",
        0,
        their_tasks::timeout_ready,
        our_tasks::timeout_ready,
    ),
    (
        "read-ready",
        10 * MANY,
        |(tokio, _), n| recv::Tokio::new(tokio)?.read(tokio, true, Limit::Timeout, n),
        |coring, n| recv::Coring::new()?.read(coring, true, Limit::Timeout, n),
    ),
    (
        "read-waits",
        10 * MANY,
        |(tokio, _), n| recv::Tokio::new(tokio)?.read(tokio, false, Limit::Timeout, n),
        |coring, n| recv::Coring::new()?.read(coring, false, Limit::Timeout, n),
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;

    let mut wanted: Option<Vec<String>> = None;
    let mut schedule = Schedule {
        window: Duration::from_millis(20),
        ..Schedule::default()
    };
    let mut csv: Option<PathBuf> = None;
    let mut rivals: Option<PathBuf> = None;
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
            Long("rivals") => {
                let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("rivals/target/release");
                rivals = Some(parser.optional_value().map_or(built, PathBuf::from));
            }
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
    let mut groups = Vec::new();
    if rivals.is_some() {
        groups.extend(BESIDE_RIVALS);
    }
    groups.extend(GROUPS);
    let mut rivals = rivals.map(|folder| start(&folder)).transpose()?;
    let heading = ["coring over", "CPU x", "quartiles", "95 %"];
    let mut ratios = vec![heading.map(str::to_owned).to_vec()];
    for (group, size, tokios, corings) in groups {
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
        for rival in rivals.iter_mut().flatten().filter(|rival| rival.has(group)) {
            let name = format!("{group}: {}", rival.name());
            let case = Case::elsewhere(&name, move |n| rival.run(group, n));
            cases.push(if size == 0 { case } else { case.times(size) });
        }
        let comparison = compare(&mut cases, schedule)?;
        println!("{}", comparison.table(&comparison.cases[0]));
        if let Some(csv) = &mut csv {
            comparison.write_csv(csv)?;
        }
        ratios.extend(over_each(&comparison, &format!("{group}: coring")));
    }
    if rivals.is_some() {
        println!("{}", render(&ratios));
    }
    Ok(())
}

fn start(folder: &Path) -> io::Result<Vec<Rival>> {
    let mut rivals = Vec::new();
    for name in RIVALS {
        let program = folder.join(name);
        if program.exists() {
            rivals.push(Rival::start(name, &program)?);
        } else {
            println!("# {name} is left out: it is not built");
        }
    }
    Ok(rivals)
}

/// A line for each other case: what the one called `name` takes over it.
fn over_each(comparison: &Comparison, name: &str) -> Vec<Vec<String>> {
    let cases = || comparison.cases.iter().enumerate();
    let Some((ours, _)) = cases().find(|(_, case)| *case == name) else {
        return Vec::new();
    };
    let others = cases().filter(|(case, _)| *case != ours);
    others
        .map(|(case, other)| {
            let cpu = comparison.ratio(ours, case, Measurement::cpu_ns_per_operation);
            vec![
                other.clone(),
                format!("{:.3}", cpu.median),
                format!("{:.3}-{:.3}", cpu.lower_quartile, cpu.upper_quartile),
                format!("{:.3}-{:.3}", cpu.low, cpu.high),
            ]
        })
        .collect()
}

fn sized<'a>(name: String, size: u64, run: impl FnMut(u64) -> io::Result<()> + 'a) -> Case<'a> {
    if size == 0 {
        Case::new(&name, run)
    } else {
        Case::sized(&name, size, run)
    }
}

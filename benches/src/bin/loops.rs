//! What do the kernel's operations cost a loop that does nothing else?
//!
//! The raw loops without a peer, in shuffled windows: the limits that a runtime's own benches are
//! held against. It does not show what a disk can do: its own rate drifts, and CPU is what counts.

use std::cell::RefCell;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coring_benches::raw::files::Reader;
use coring_benches::raw::recv_timeout::Pair;
use coring_benches::raw::{Turns, nops, ring, sleeps};
use coring_benches::{Case, Schedule, compare};

const USAGE: &str = "\
loops [nop,recv,sleep,file] [--cycles 40] [--window-ms 50] [--csv FILE] [--file FILE]

--file names the file that is read (made with 64 MiB if it is not there, and then removed); its
folder decides which file system and disk are measured.";

const FILE_BYTES: usize = 64 << 20;

struct Arguments {
    groups: Vec<String>,
    schedule: Schedule,
    csv: Option<PathBuf>,
    file: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Some(arguments) = Arguments::parse()? else {
        println!("{USAGE}");
        return Ok(());
    };
    let mut csv = match &arguments.csv {
        Some(path) => Some(BufWriter::new(File::create(path)?)),
        None => None,
    };
    let mut ring = ring()?;
    let turns = RefCell::new(Turns::new(&mut ring)?);
    for group in &arguments.groups {
        let made = group == "file" && make(&arguments.file)?;
        let outcome = cases(group, &arguments.file, &turns)
            .and_then(|mut cases| compare(&mut cases, arguments.schedule));
        if made {
            std::fs::remove_file(&arguments.file)?;
        }
        let comparison = outcome?;
        let baseline = &comparison.cases[0];
        println!("{}", comparison.table(baseline));
        if let Some(csv) = &mut csv {
            comparison.write_csv(csv)?;
        }
    }
    Ok(())
}

/// The cases of one table; the first is the baseline of its ratios.
fn cases<'a>(group: &str, file: &Path, turns: &'a RefCell<Turns<'_>>) -> io::Result<Vec<Case<'a>>> {
    let mut cases = Vec::new();
    match group {
        "nop" => {
            for batch in [1, 8, 32, 128] {
                let name = format!("nop, {batch} to an enter");
                cases.push(Case::new(&name, move |n| {
                    nops::run(&mut turns.borrow_mut(), batch, n)
                }));
            }
        }
        "recv" => {
            for (name, bounded) in [("recv", false), ("recv with LINK_TIMEOUT", true)] {
                let mut pair = Pair::new()?;
                cases.push(Case::new(name, move |n| {
                    pair.run(&mut turns.borrow_mut(), false, bounded, n)
                }));
            }
        }
        "sleep" => cases.extend(sleep_cases(turns)),
        "file" => {
            for (how, direct) in [("page cache", false), ("O_DIRECT", true)] {
                for depth in [1, 32, 128] {
                    let mut reader = Reader::open(file, direct, depth)?;
                    let name = format!("4 KiB, {how}, depth {depth}");
                    cases.push(Case::new(&name, move |n| {
                        reader.run(&mut turns.borrow_mut(), n)
                    }));
                }
            }
        }
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no group {group}"),
            ));
        }
    }
    Ok(cases)
}

fn sleep_cases<'a>(turns: &'a RefCell<Turns<'_>>) -> [Case<'a>; 4] {
    let millisecond = Duration::from_millis(1);
    [
        Case::new("arm and cancel, 1 to an enter", |n| {
            sleeps::arm_and_cancel(&mut turns.borrow_mut(), 1, n)
        }),
        Case::new("arm and cancel, 64 to an enter", |n| {
            sleeps::arm_and_cancel(&mut turns.borrow_mut(), 64, n)
        }),
        Case::sized("arm 1,000 and let them fire", 1_000, move |n| {
            sleeps::arm_and_fire(&mut turns.borrow_mut(), millisecond, n)
        }),
        Case::sized("sleep 1 ms in enter", 10, move |n| {
            sleeps::sleep_in_enter(&mut turns.borrow_mut(), millisecond, n)
        }),
    ]
}

/// Fills a file that is not there; false if it is.
fn make(path: &Path) -> io::Result<bool> {
    match File::create_new(path) {
        Ok(mut file) => {
            file.write_all(&vec![7; FILE_BYTES])?;
            file.sync_all()?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

impl Arguments {
    /// None if help was asked for.
    fn parse() -> Result<Option<Arguments>, Box<dyn Error>> {
        use lexopt::prelude::*;

        let mut arguments = Arguments {
            groups: ["nop", "recv", "sleep", "file"].map(str::to_owned).into(),
            schedule: Schedule::default(),
            csv: None,
            file: std::env::temp_dir().join("coring-loops.data"),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Value(groups) => {
                    arguments.groups = groups.string()?.split(',').map(str::to_owned).collect();
                }
                Long("cycles") => arguments.schedule.cycles = parser.value()?.parse()?,
                Long("window-ms") => {
                    arguments.schedule.window = Duration::from_millis(parser.value()?.parse()?);
                }
                Long("csv") => arguments.csv = Some(parser.value()?.into()),
                Long("file") => arguments.file = parser.value()?.into(),
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(argument.unexpected().into()),
            }
        }
        Ok(Some(arguments))
    }
}

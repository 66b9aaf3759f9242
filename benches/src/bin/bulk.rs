//! How much can one core receive, and send, over one connection?
//!
//! Every way moves 128 MiB in its window, to or from a thread on the other core that calls read(2) or
//! write(2) in a loop, with chunks of the same size (the reader's are 256 KiB). Nobody looks at the
//! bytes. It does not show a real network card: over loopback each byte is copied by both sides, and
//! a zero-copy send is a send with a copy and a notification more.

use std::cell::RefCell;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::net::TcpStream as StdStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

use bytes::Bytes;
use coring::Runner;
use coring::net::TcpStream;
use coring_benches::raw::bulk::Bulk;
use coring_benches::raw::{Turns, ring};
use coring_benches::{
    Case, Comparison, Measurement, Schedule, Spent, compare, pair, peer, render, spent,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

const USAGE: &str = "\
bulk [receive,send] [--chunks 16,64,256,1024] [--cycles 40] [--only NAME,NAME] [--csv FILE]

--chunks: in KiB.";

/// What a window moves, in the unit of the table.
const MIB: u64 = 1 << 20;
const MIB_PER_WINDOW: u64 = 128;
/// Chunks of the thread that reads what is sent.
const READER_BYTES: usize = 256 << 10;

/// Moves so many MiB in chunks of so many bytes over its end of a connection.
type Way<'a> = Box<dyn FnMut(StdStream, u64, usize) -> io::Result<()> + 'a>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut groups: Vec<String> = ["receive", "send"].map(str::to_owned).into();
    let mut chunks: Vec<usize> = vec![16, 64, 256, 1024];
    let mut schedule = Schedule {
        cycles: 40,
        // Each runs once: it moves as much as it is told.
        window: Duration::ZERO,
        ..Schedule::default()
    };
    let (mut only, mut csv) = (None, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        use lexopt::prelude::*;
        match argument {
            Value(names) => groups = names.string()?.split(',').map(str::to_owned).collect(),
            Long("chunks") => {
                let sizes = parser.value()?.string()?;
                chunks = sizes.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            Long("cycles") => schedule.cycles = parser.value()?.parse()?,
            Long("only") => only = Some(parser.value()?.string()?),
            Long("csv") => csv = Some(BufWriter::new(File::create(parser.value()?)?)),
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(());
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    let mut ring = ring()?;
    let mut turns = Turns::new(&mut ring)?;
    let bulk = RefCell::new(Bulk::new(&mut turns)?);
    let runner = RefCell::new(Runner::builder().build()?);
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let wanted = |name: &str| {
        let only = only.as_ref();
        only.is_none_or(|only| only.split(',').any(|wanted| wanted == name))
    };
    for group in &groups {
        let receives = match &group[..] {
            "receive" => true,
            "send" => false,
            _ => return Err(format!("no group {group}").into()),
        };
        for &chunk in &chunks {
            let ways = if receives {
                receiving(&bulk, &runner, &tokio)
            } else {
                sending(&bulk, &runner, &tokio)
            };
            let ways = ways.into_iter().filter(|(name, _)| wanted(name));
            let mut cases: Vec<Case<'_>> = ways
                .map(|(name, mut way)| {
                    let run = move |mib| {
                        let chunk = chunk << 10;
                        if receives {
                            from_writer(mib, chunk, &mut way)
                        } else {
                            to_reader(mib, chunk, &mut way)
                        }
                    };
                    Case::elsewhere(name, run).times(MIB_PER_WINDOW)
                })
                .collect();
            let comparison = compare(&mut cases, schedule)?;
            println!("## {group}, {chunk} KiB\n{}", table(&comparison));
            if let Some(csv) = &mut csv {
                writeln!(csv, "# {group}, {chunk} KiB; an operation is a MiB")?;
                comparison.write_csv(csv)?;
            }
        }
    }
    Ok(())
}

/// Bytes per nanosecond are gigabytes per second. Ratios are to the first case.
fn table(comparison: &Comparison) -> String {
    let baseline = comparison.cases.first().map_or("nothing", String::as_str);
    let ratio = format!("CPU x {baseline}");
    let heading = ["way", &ratio, "quartiles", "95 %", "GB per CPU s", "GB/s"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (case, name) in comparison.cases.iter().enumerate() {
        let cpu = comparison.ratio(case, 0, Measurement::cpu_ns_per_operation);
        let rate = |ns: fn(&Measurement) -> f64| {
            format!("{:.2}", MIB as f64 / comparison.median(case, ns))
        };
        rows.push(vec![
            name.clone(),
            format!("{:.3}", cpu.median),
            format!("{:.3}-{:.3}", cpu.lower_quartile, cpu.upper_quartile),
            format!("{:.3}-{:.3}", cpu.low, cpu.high),
            rate(Measurement::cpu_ns_per_operation),
            rate(Measurement::wall_ns_per_operation),
        ]);
    }
    let cycles = comparison.schedule.cycles;
    let host = &comparison.host;
    format!(
        "{host}# {cycles} cycles of {MIB_PER_WINDOW} MiB\n{}",
        render(&rows)
    )
}

fn from_writer(mib: u64, chunk: usize, way: &mut Way<'_>) -> io::Result<Spent> {
    let (from, mut writer) = pair()?;
    let writer = peer(move || {
        let (message, times) = (vec![7; chunk], mib * MIB / chunk as u64);
        (0..times).try_for_each(|_| writer.write_all(&message))
    });
    spent([writer], || way(from, mib, chunk))
}

fn to_reader(mib: u64, chunk: usize, way: &mut Way<'_>) -> io::Result<Spent> {
    let (to, mut reader) = pair()?;
    let reader = peer(move || {
        let (mut left, mut buf) = (mib * MIB, vec![0; READER_BYTES]);
        while left > 0 {
            match reader.read(&mut buf)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => left -= n as u64,
            }
        }
        Ok(())
    });
    spent([reader], || way(to, mib, chunk))
}

/// What has come is all that was sent.
fn whole(received: u64, mib: u64) -> io::Result<()> {
    if received == mib * MIB {
        Ok(())
    } else {
        Err(io::Error::other(format!("{received} bytes have come")))
    }
}

fn receiving<'a>(
    bulk: &'a RefCell<Bulk<'_, '_>>,
    runner: &'a RefCell<Runner>,
    tokio: &'a Runtime,
) -> Vec<(&'static str, Way<'a>)> {
    vec![
        (
            "read(2)",
            Box::new(|mut from, mib, chunk| {
                let (mut total, mut buf) = (0, vec![0; chunk]);
                loop {
                    match from.read(&mut buf)? {
                        0 => return whole(total, mib),
                        n => total += n as u64,
                    }
                }
            }),
        ),
        (
            "coring receive",
            Box::new(|from, mib, _| {
                runner.borrow_mut().run(async {
                    let (mut from, mut total) = (TcpStream::from(from), 0);
                    loop {
                        match from.receive().await?.len() {
                            0 => return whole(total, mib),
                            n => total += n as u64,
                        }
                    }
                })
            }),
        ),
        (
            "coring read",
            Box::new(|from, mib, chunk| {
                runner.borrow_mut().run(async {
                    let (mut from, mut total) = (TcpStream::from(from), 0);
                    let mut buf = Vec::with_capacity(chunk);
                    loop {
                        buf.clear();
                        let (n, filled) = from.read(buf).await.ok()?;
                        buf = filled;
                        match n {
                            0 => return whole(total, mib),
                            n => total += n as u64,
                        }
                    }
                })
            }),
        ),
        (
            "coring StreamReader",
            Box::new(|from, mib, chunk| {
                runner.borrow_mut().run(async {
                    let (mut from, _to) = TcpStream::from(from).into_streams();
                    let mut total = 0;
                    loop {
                        match from.read(chunk).await?.len() {
                            0 => return whole(total, mib),
                            n => total += n as u64,
                        }
                    }
                })
            }),
        ),
        (
            "tokio",
            Box::new(|from, mib, chunk| {
                tokio.block_on(async {
                    from.set_nonblocking(true)?;
                    let mut from = tokio::net::TcpStream::from_std(from)?;
                    let (mut total, mut buf) = (0, vec![0; chunk]);
                    loop {
                        match from.read(&mut buf).await? {
                            0 => return whole(total, mib),
                            n => total += n as u64,
                        }
                    }
                })
            }),
        ),
        (
            "raw one-shot",
            Box::new(|from, mib, chunk| {
                let mut buf = vec![0; chunk];
                whole(bulk.borrow_mut().receive(from.as_raw_fd(), &mut buf)?, mib)
            }),
        ),
        (
            "raw multishot",
            Box::new(|from, mib, _| {
                whole(bulk.borrow_mut().receive_multishot(from.as_raw_fd())?, mib)
            }),
        ),
    ]
}

fn sending<'a>(
    bulk: &'a RefCell<Bulk<'_, '_>>,
    runner: &'a RefCell<Runner>,
    tokio: &'a Runtime,
) -> Vec<(&'static str, Way<'a>)> {
    fn times(mib: u64, chunk: usize) -> u64 {
        mib * MIB / chunk as u64
    }
    vec![
        (
            "write(2)",
            Box::new(|mut to, mib, chunk| {
                let buf = vec![7; chunk];
                (0..times(mib, chunk)).try_for_each(|_| to.write_all(&buf))
            }),
        ),
        (
            "coring write_all",
            Box::new(|to, mib, chunk| {
                runner.borrow_mut().run(async {
                    let (mut to, mut buf) = (TcpStream::from(to), vec![7; chunk]);
                    for _ in 0..times(mib, chunk) {
                        ((), buf) = to.write_all(buf).await.ok()?;
                    }
                    coring::ok(())
                })
            }),
        ),
        (
            "coring send_zc_all",
            Box::new(|to, mib, chunk| {
                runner.borrow_mut().run(async {
                    let (mut to, mut buf) = (TcpStream::from(to), vec![7; chunk]);
                    for _ in 0..times(mib, chunk) {
                        (_, buf) = to.send_zc_all(buf).await.ok()?;
                    }
                    coring::ok(())
                })
            }),
        ),
        (
            "coring StreamWriter, &[u8]",
            Box::new(|to, mib, chunk| {
                runner.borrow_mut().run(async {
                    let (_from, mut to) = TcpStream::from(to).into_streams();
                    let buf = vec![7; chunk];
                    for _ in 0..times(mib, chunk) {
                        to.write(&buf);
                        to.drain().await?;
                    }
                    to.flush().await
                })
            }),
        ),
        (
            "coring StreamWriter, Bytes",
            Box::new(|to, mib, chunk| {
                runner.borrow_mut().run(async {
                    let (_from, mut to) = TcpStream::from(to).into_streams();
                    let buf = Bytes::from(vec![7; chunk]);
                    for _ in 0..times(mib, chunk) {
                        to.write(buf.clone());
                        to.drain().await?;
                    }
                    to.flush().await
                })
            }),
        ),
        (
            "tokio",
            Box::new(|to, mib, chunk| {
                tokio.block_on(async {
                    to.set_nonblocking(true)?;
                    let mut to = tokio::net::TcpStream::from_std(to)?;
                    let buf = vec![7; chunk];
                    for _ in 0..times(mib, chunk) {
                        to.write_all(&buf).await?;
                    }
                    Ok(())
                })
            }),
        ),
        (
            "raw",
            Box::new(|to, mib, chunk| {
                let buf = vec![7; chunk];
                let mut bulk = bulk.borrow_mut();
                bulk.send(to.as_raw_fd(), &buf, times(mib, chunk))
            }),
        ),
    ]
}

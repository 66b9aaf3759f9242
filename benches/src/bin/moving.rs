//! What does it cost to move bytes that nobody looks at: from one socket to another, and from a file
//! to a socket?
//!
//! coring's way against splice(2) on a raw ring, two linked ones through a pipe, and against
//! sendfile(2), which blocks the loop for a page that is not in the cache. Over loopback TCP, where
//! the peer's work is on the other core and is not counted. It does not show a real network card,
//! nor files that come from a disk.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures real time and stands outside every runtime"
)]

use std::cell::RefCell;
use std::error::Error;
use std::fs::File as StdFile;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use coring::fs::File;
use coring::net::{TcpStream, copy_bidirectional};
use coring::{BufResult, IoBuf, Runner};
use coring_benches::raw::splices::{self, Pipe};
use coring_benches::raw::{Turns, ring};
use coring_benches::{Case, Schedule, Spent, compare, groups_and_schedule, pair, peer, spent};

const USAGE: &str = "\
moving [proxy,file] [--cycles 20] [--window-ms 60]

proxy: messages to an echo server and back, and bulk one way. file: from the page cache.";

fn main() -> Result<(), Box<dyn Error>> {
    let schedule = Schedule {
        cycles: 20,
        window: Duration::from_millis(60),
        ..Schedule::default()
    };
    let Some((groups, schedule)) = groups_and_schedule(USAGE, &["proxy", "file"], schedule)? else {
        return Ok(());
    };
    let mut ring = ring()?;
    let turns = RefCell::new(Turns::new(&mut ring)?);
    let runner = RefCell::new(Runner::builder().build()?);
    for group in &groups {
        match &group[..] {
            "proxy" => proxy(&turns, &runner, schedule)?,
            "file" => file(&turns, &runner, schedule)?,
            _ => return Err(format!("no group {group}").into()),
        }
    }
    Ok(())
}

/// How a message is passed on.
#[derive(Clone, Copy)]
enum Way {
    Leases,
    Splice { polls: bool },
}

fn proxy(
    turns: &RefCell<Turns<'_>>,
    runner: &RefCell<Runner>,
    schedule: Schedule,
) -> Result<(), Box<dyn Error>> {
    for (name, bytes, bulk) in [
        ("64 B there and back", 64, false),
        ("4 KiB there and back", 4 << 10, false),
        ("64 KiB there and back", 64 << 10, false),
        ("64 KiB one way", 64 << 10, true),
    ] {
        let case = |way_name: &str, way: Way| {
            Case::elsewhere(way_name, move |n| {
                pass_on(turns, runner, way, bytes, bulk, n)
            })
        };
        let mut cases = [
            case("leases", Way::Leases),
            case("splice", Way::Splice { polls: false }),
            case("poll and splice", Way::Splice { polls: true }),
        ];
        let comparison = compare(&mut cases, schedule)?;
        println!("## {name}\n{}", comparison.table("leases"));
    }
    Ok(())
}

/// Passes on `n` messages.
fn pass_on(
    turns: &RefCell<Turns<'_>>,
    runner: &RefCell<Runner>,
    way: Way,
    bytes: usize,
    bulk: bool,
    n: u64,
) -> io::Result<Spent> {
    let (mut client, front) = pair()?;
    let (back, mut server) = pair()?;
    let client = peer(move || {
        let (message, mut answer) = (vec![7; bytes], vec![0; bytes]);
        for _ in 0..n {
            client.write_all(&message)?;
            if !bulk {
                client.read_exact(&mut answer)?;
            }
        }
        client.shutdown(Shutdown::Write)?;
        io::copy(&mut client, &mut io::sink()).map(drop)
    });
    let server = peer(move || {
        let mut buf = vec![0; bytes.max(256 << 10)];
        loop {
            match server.read(&mut buf)? {
                0 => return Ok(()),
                n if !bulk => server.write_all(&buf[..n])?,
                _ => {}
            }
        }
    });
    spent([client, server], || match way {
        Way::Leases => runner.borrow_mut().run(async {
            let (mut front, mut back) = (TcpStream::from(front), TcpStream::from(back));
            copy_bidirectional(&mut front, &mut back).await.map(drop)
        }),
        Way::Splice { polls } => {
            let pipes = [Pipe::new()?, Pipe::new()?];
            let sockets = [front.as_raw_fd(), back.as_raw_fd()];
            splices::both_ways(&mut turns.borrow_mut(), &pipes, sockets, polls)
        }
    })
}

fn file(
    turns: &RefCell<Turns<'_>>,
    runner: &RefCell<Runner>,
    schedule: Schedule,
) -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("coring-moving-{}", std::process::id()));
    let outcome = files(turns, runner, schedule, &path);
    std::fs::remove_file(&path)?;
    outcome
}

fn files(
    turns: &RefCell<Turns<'_>>,
    runner: &RefCell<Runner>,
    schedule: Schedule,
    path: &std::path::Path,
) -> Result<(), Box<dyn Error>> {
    StdFile::create(path)?.write_all(&vec![7; 64 << 20])?;
    let file = StdFile::open(path)?;
    let pipe = Pipe::new()?;
    for (name, bytes) in [
        ("4 KiB", 4 << 10),
        ("64 KiB", 64 << 10),
        ("1 MiB", 1 << 20),
        ("64 MiB", 64 << 20),
    ] {
        let (turns, pipe, file) = (turns, &pipe, &file);
        let mut cases = Vec::new();
        cases.push(Case::elsewhere("sendfile of coring", move |n| {
            to_reader(n, bytes, |to| {
                let (file, mut to) = (File::from(file.try_clone()?), TcpStream::from(to));
                runner.borrow_mut().run(async {
                    for _ in 0..n {
                        to.sendfile(&file, 0, Some(bytes)).await?;
                    }
                    coring::ok(())
                })
            })
        }));
        cases.push(Case::elsewhere("read and send, 64 KiB", move |n| {
            to_reader(n, bytes, |to| {
                let (file, to) = (File::from(file.try_clone()?), TcpStream::from(to));
                runner
                    .borrow_mut()
                    .run(read_and_send(file, to, n, bytes, 64 << 10))
            })
        }));
        cases.push(Case::elsewhere("splice", move |n| {
            to_reader(n, bytes, |to| {
                (0..n).try_for_each(|_| {
                    let (file, to) = (file.as_raw_fd(), to.as_raw_fd());
                    splices::send_file(&mut turns.borrow_mut(), file, to, pipe, bytes)
                })
            })
        }));
        cases.push(Case::elsewhere("sendfile(2)", move |n| {
            to_reader(n, bytes, |to| {
                (0..n).try_for_each(|_| sendfile(file, &to, bytes))
            })
        }));
        let comparison = compare(&mut cases, schedule)?;
        println!("## {name}\n{}", comparison.table("sendfile of coring"));
    }
    Ok(())
}

fn to_reader(
    n: u64,
    bytes: u64,
    work: impl FnOnce(StdStream) -> io::Result<()>,
) -> io::Result<Spent> {
    let (to, mut reader) = pair()?;
    let reader = peer(move || {
        let (mut left, mut buf) = (n * bytes, vec![0; 256 << 10]);
        while left > 0 {
            match reader.read(&mut buf)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => left -= n as u64,
            }
        }
        Ok(())
    });
    spent([reader], || work(to))
}

async fn read_and_send(
    file: File,
    mut to: TcpStream,
    n: u64,
    bytes: u64,
    chunk: usize,
) -> io::Result<()> {
    let mut buf = Vec::with_capacity(chunk.min(bytes as usize));
    for _ in 0..n {
        let mut at = 0;
        while at < bytes {
            let BufResult(read, back) = file.read_at(buf, at).await;
            at += read? as u64;
            let BufResult(written, back) = to.write_all(back.slice(..)).await;
            written?;
            buf = back.into_inner();
        }
    }
    Ok(())
}

fn sendfile(file: &StdFile, to: &StdStream, bytes: u64) -> io::Result<()> {
    let mut at = 0;
    while (at as u64) < bytes {
        let left = (bytes - at as u64) as usize;
        // SAFETY: the kernel reads and writes `at`, which outlives the call.
        let n = unsafe { libc::sendfile(to.as_raw_fd(), file.as_raw_fd(), &raw mut at, left) };
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

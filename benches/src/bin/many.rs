//! What do very many connections cost in memory that say little or nothing?
//!
//! The server is a process of its own, coring's, with a reader and a writer for each connection, as
//! `start_server` makes them. The clients come from several addresses of loopback, and have nothing
//! but a socket each.
//!
//! * `slow`: each sends a byte a second, which is read.
//! * `unread`: the same, and nobody reads after the first byte.
//! * `idle`: as many as may be; at the end each is asked for a byte, and answers.
//!
//! User space is the server's resident memory. Kernel space is what the slabs have grown by, for both
//! ends and for whatever else the machine does meanwhile: leave it alone. What the kernel has outside
//! of slabs is not seen, nor what it would need if bytes were under way.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use coring::net::{SocketOptions, TcpStream};
use coring::sync::Event;
use coring::{
    Stats, StreamReader, StreamWriter, interval, now, open_connection, sleep, start_server,
};
use coring_benches::{Host, render};

const USAGE: &str = "many [slow,unread,idle] [--peers 10000] [--idle 19900] [--seconds 5]";

/// Addresses that the clients come from.
const ADDRESSES: usize = 8;
/// Parts of a second, in each of which a part of the clients sends.
const PARTS: usize = 50;
/// Descriptors that are not for connections.
const OTHERS: u64 = 60;

const BYTE: &str = ".";
/// Is answered by how many others came.
const QUESTION: &str = "?";

fn main() -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;

    let may_open = raise_descriptors()?;
    let mut modes = ["slow", "unread", "idle"].map(str::to_owned).to_vec();
    let (mut peers, mut idle, mut seconds) = (10_000, usize::MAX, 5);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(value) => modes = value.string()?.split(',').map(str::to_owned).collect(),
            Long("peers") => peers = parser.value()?.parse()?,
            Long("idle") => idle = parser.value()?.parse()?,
            Long("seconds") => seconds = parser.value()?.parse()?,
            Long("serve") => return Ok(coring::run(serve(parser.value()?.string()? == "read"))?),
            _ => {
                println!("{USAGE}");
                return Ok(());
            }
        }
    }
    let most = usize::try_from(may_open.saturating_sub(OTHERS))?;
    for mode in modes {
        let (connections, seconds) = match mode.as_str() {
            "slow" | "unread" => (peers.min(most), seconds),
            "idle" => (idle.min(most), 0),
            _ => return Err(USAGE.into()),
        };
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--serve", if mode == "unread" { "keep" } else { "read" }])
            .stdout(Stdio::piped())
            .spawn()?;
        let rows = coring::run(measure(&mut child, connections, seconds, mode == "unread"));
        child.kill()?;
        child.wait()?;
        println!("{}mode {mode}", Host::here());
        println!("{}", render(&rows?));
    }
    Ok(())
}

/// Has as many as may be, and says how many that is.
fn raise_descriptors() -> Result<u64, std::io::Error> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one limit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one limit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(limit.rlim_max)
}

/// The server. Another one says what it has and has received.
async fn serve(reads: bool) -> std::io::Result<()> {
    let received = Rc::new(Cell::new(0_u64));
    let counts = received.clone();
    let go_on = Rc::new(Event::new());
    let waits = go_on.clone();
    let handler = async move |mut reader: StreamReader, mut writer: StreamWriter| {
        let mut came = 0_u8;
        loop {
            let bytes = reader.read(4_096).await?;
            if bytes.is_empty() {
                return coring::ok(());
            }
            for &byte in &bytes[..] {
                if byte == QUESTION.as_bytes()[0] {
                    writer.write(&[came]);
                } else {
                    came += 1;
                    counts.set(counts.get() + 1);
                }
            }
            drop(bytes);
            if !reads {
                waits.wait().await?;
            }
        }
    };
    let server = Rc::new(start_server("127.0.0.1:0", handler).await?);
    let has = server.clone();
    let mut control = start_server(
        "127.0.0.1:0",
        async move |mut reader: StreamReader, mut writer: StreamWriter| -> std::io::Result<()> {
            loop {
                match &reader.readline().await?[..] {
                    b"" => std::process::exit(0), // Whoever measures is gone.
                    b"read\n" => go_on.set(),
                    _ => {}
                }
                let stats = Stats::current();
                writer.write(format!(
                    "{} {} {} {} {}\n",
                    has.connections(),
                    received.get(),
                    resident_bytes(),
                    stats.buffers.total,
                    stats.buffers.leases,
                ));
            }
        },
    )
    .await?;
    println!("{} {}", server.local_addr()?, control.local_addr()?);
    control.serve_forever().await
}

/// What the server has.
struct Has {
    connections: u64,
    received: u64,
    resident: u64,
    buffers: u64,
    leases: u64,
}

struct Control {
    reader: StreamReader,
    writer: StreamWriter,
}

impl Control {
    async fn ask(&mut self, question: &str) -> Result<Has, Box<dyn Error>> {
        self.writer.write(question);
        let line = self.reader.readline().await?;
        let words = std::str::from_utf8(&line)?.split_whitespace();
        let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>()?;
        let [connections, received, resident, buffers, leases] = numbers[..] else {
            return Err("the server is gone".into());
        };
        Ok(Has {
            connections,
            received,
            resident,
            buffers,
            leases,
        })
    }

    /// Until the server has what it is to have.
    async fn until(&mut self, holds: impl Fn(&Has) -> bool) -> Result<Has, Box<dyn Error>> {
        for _ in 0..1_000 {
            let has = self.ask("stats\n").await?;
            if holds(&has) {
                return Ok(has);
            }
            sleep(Duration::from_millis(20)).await?;
        }
        Err("the server does not get there".into())
    }
}

async fn measure(
    child: &mut Child,
    connections: usize,
    seconds: u64,
    unread: bool,
) -> Result<Vec<Vec<String>>, Box<dyn Error>> {
    let mut line = String::new();
    let stdout = child.stdout.take().ok_or("no output")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let (addr, control) = line.trim().split_once(' ').ok_or("no address")?;
    let addr: SocketAddr = addr.parse()?;
    let (reader, writer) = open_connection(control).await?;
    let mut control = Control { reader, writer };
    let n = connections as u64;

    let (before, slabs) = (control.ask("stats\n").await?, slabs());
    let begin = now();
    let mut clients = Vec::with_capacity(connections);
    for i in 0..connections {
        let local = Ipv4Addr::new(127, 0, 0, 2 + (i % ADDRESSES) as u8);
        let mut options = SocketOptions::new();
        options.local((local, 0).into());
        clients.push(options.connect(addr).await?);
    }
    let mut has = control.until(|has| has.connections == n).await?;
    let connected = now() - begin;
    let mut rows = vec![vec!["".into(), "per connection".into(), "in all".into()]];
    let mut row = |what: &str, bytes: u64| {
        let each = format!("{:.0} B", bytes as f64 / n as f64);
        rows.push(vec![
            what.into(),
            each,
            format!("{:.1} MB", bytes as f64 / 1e6),
        ]);
    };
    row("user space, idle", has.resident - before.resident);
    row("kernel, idle, both ends", total(&grown(&slabs)));

    let mut ticks = interval(Duration::from_secs(1) / PARTS as u32);
    for _ in 0..seconds {
        for part in clients.chunks_mut(connections.div_ceil(PARTS)) {
            for client in part {
                client.write_all(BYTE).await.0?;
            }
            ticks.tick().await?;
        }
    }
    let (mut most_buffers, mut most_leases) = (has.buffers, has.leases);
    if seconds > 0 {
        if unread {
            sleep(Duration::from_secs(1)).await?;
            has = control.ask("stats\n").await?;
            most_leases = has.leases;
        } else {
            has = control.until(|has| has.received == n * seconds).await?;
        }
        most_buffers = most_buffers.max(has.buffers);
        row(
            "user space, after so many bytes",
            has.resident - before.resident,
        );
        row("kernel, both ends", total(&grown(&slabs)));
    }
    for (name, bytes) in grown(&slabs).into_iter().take(8) {
        row(&format!("  slab {name}"), bytes);
    }

    // Each still works.
    control.ask("read\n").await?;
    control.until(|has| has.received == n * seconds).await?;
    let begin = now();
    for client in &mut clients {
        ask(client, seconds).await?;
    }
    let asked = now() - begin;
    has = control.ask("stats\n").await?;
    row(
        "user space, after an answer each",
        has.resident - before.resident,
    );
    let begin = now();
    drop(clients);
    let after = control.until(|has| has.connections == 0).await?;
    let closed = now() - begin;
    row(
        "user space, once all are closed",
        after.resident.saturating_sub(before.resident),
    );
    for (what, value) in [
        ("connections", n),
        ("bytes received", after.received),
        ("buffers of 64 KiB, at the most", most_buffers),
        ("pieces that wait to be read", most_leases),
        ("ms to connect all", connected.as_millis() as u64),
        ("ms to ask all, one by one", asked.as_millis() as u64),
        ("ms to close all", closed.as_millis() as u64),
    ] {
        rows.push(vec![what.into(), String::new(), value.to_string()]);
    }
    Ok(rows)
}

/// One answers how many bytes came from it.
async fn ask(client: &mut TcpStream, sent: u64) -> Result<(), Box<dyn Error>> {
    client.write_all(QUESTION).await.0?;
    let (n, answer) = client.read(Vec::with_capacity(8)).await.ok()?;
    if n != 1 || u64::from(answer[0]) != sent {
        return Err(format!("{sent} bytes were sent, {answer:?} came").into());
    }
    Ok(())
}

/// Bytes of each kind of slab. Empty if that may not be read, which takes root.
fn slabs() -> BTreeMap<String, u64> {
    let text = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    let slab = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let objects: u64 = words.get(1)?.parse().ok()?;
        let bytes: u64 = words.get(3)?.parse().ok()?;
        Some((words[0].to_owned(), objects * bytes))
    };
    text.lines().filter_map(slab).collect()
}

/// What they have grown by, the most first.
fn grown(before: &BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let grown = |(name, bytes): (String, u64)| {
        let was = before.get(&name).copied().unwrap_or(0);
        Some((name, bytes.checked_sub(was)?))
    };
    let mut all: Vec<_> = slabs().into_iter().filter_map(grown).collect();
    all.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
    all
}

fn total(slabs: &[(String, u64)]) -> u64 {
    slabs.iter().map(|(_, bytes)| bytes).sum()
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}

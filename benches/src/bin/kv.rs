//! What does a request cost `examples/kv`, and what Redis?
//!
//! redis-benchmark, on the other core, asks each by turns: 50 connections, random keys, one request at
//! a time or 16 at once. Beside them are servers that answer without looking anything up: what is
//! between those and Redis is all that another server could win. It does not show many keys, large
//! values, or a client that keeps the server busy: redis-benchmark needs about as long for a request
//! as Redis.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures real time and stands outside every runtime"
)]

use std::cell::RefCell;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use coring_benches::{
    Case, Comparison, Measurement, Schedule, Server, Spent, Spread, as_client, compare, raw,
    render, servers,
};

const USAGE: &str = "\
kv [get,set] [--pipelines 1,16] [--cycles 15] [--only NAME,NAME] [--kv PROGRAM]
   [--redis PROGRAM] [--csv FILE]

PROGRAM: where the example is, built by `cargo build --profile bench --example kv`, and Redis.
NAME: redis, kv, kv patient, coring canned, epoll canned, raw canned, raw patient. Ratios are to the first.";

/// Those of this program.
const OWN: [&str; 4] = ["coring canned", "epoll canned", "raw canned", "raw patient"];

const CONNECTIONS: &str = "50";
const KEYS: &str = "100000";
/// Of a window, one at a time, and with a pipeline.
const REQUESTS: u64 = 50_000;
const PIPELINED: u64 = 320_000;

struct Arguments {
    tests: Vec<String>,
    pipelines: Vec<u32>,
    schedule: Schedule,
    only: Option<String>,
    kv: PathBuf,
    redis: PathBuf,
    csv: Option<BufWriter<File>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some("--serve") {
        return Ok(serve(&words.next().unwrap_or_default())?);
    }
    let Some(mut arguments) = Arguments::parse()? else {
        println!("{USAGE}");
        return Ok(());
    };
    let servers = start(&arguments)?;
    for &pipeline in &arguments.pipelines {
        for test in &arguments.tests {
            let requests = if pipeline == 1 { REQUESTS } else { PIPELINED };
            let latencies = RefCell::new(vec![Vec::new(); servers.len()]);
            let mut cases: Vec<Case<'_>> = servers
                .iter()
                .zip(0..)
                .map(|(server, place): (&Server, usize)| {
                    let latencies = &latencies;
                    let run = move |requests| {
                        let (spent, latency) = ask(server, test, pipeline, requests)?;
                        latencies.borrow_mut()[place].push(latency);
                        Ok(spent)
                    };
                    Case::elsewhere(server.name(), run).times(requests)
                })
                .collect();
            let comparison = compare(&mut cases, arguments.schedule)?;
            drop(cases);
            println!("## {test}, pipeline of {pipeline}");
            println!("{}", table(&comparison, &latencies.into_inner()));
            if let Some(csv) = &mut arguments.csv {
                writeln!(csv, "# {test}, pipeline of {pipeline}")?;
                comparison.write_csv(csv)?;
            }
        }
    }
    Ok(())
}

/// A server of this program's, in a process of its own: one thread, as the others.
fn serve(which: &str) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    match which {
        "raw canned" => raw::kv::serve(&listener, false),
        "raw patient" => raw::kv::serve(&listener, true),
        "epoll canned" => servers::canned::epoll(listener),
        "coring canned" => servers::canned::coring(listener),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn start(arguments: &Arguments) -> Result<Vec<Server>, Box<dyn Error>> {
    let wanted = |name: &str| {
        let only = arguments.only.as_ref();
        only.is_none_or(|only| only.split(',').any(|wanted| wanted == name))
    };
    let mut servers = Vec::new();
    if wanted("redis") {
        let address = free_address()?;
        let port = address.port().to_string();
        let mut redis = Command::new(&arguments.redis);
        redis.args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
        redis.args(["--appendonly", "no", "--daemonize", "no"]);
        let started = Server::child_at("redis", redis, address);
        servers.push(started.map_err(|error| format!("{}: {error}", arguments.redis.display()))?);
    }
    for (name, option) in [("kv", None), ("kv patient", Some("--patient"))] {
        if wanted(name) {
            let mut kv = Command::new(&arguments.kv);
            kv.arg("127.0.0.1:0").args(option);
            let started = Server::child(name, kv);
            servers.push(started.map_err(|error| format!("{}: {error}", arguments.kv.display()))?);
        }
    }
    for name in OWN {
        if wanted(name) {
            let mut own = Command::new(std::env::current_exe()?);
            own.args(["--serve", name]);
            servers.push(Server::child(name, own)?);
        }
    }
    Ok(servers)
}

/// Nobody else takes it within the moment until it is taken.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Microseconds that half, 99 and 99.9 % of the requests take at most.
type Latency = [f64; 3];

/// Has redis-benchmark ask for so many.
fn ask(server: &Server, test: &str, pipeline: u32, requests: u64) -> io::Result<(Spent, Latency)> {
    let mut client = Command::new("redis-benchmark");
    as_client(&mut client);
    client
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.address().port().to_string(),
        ])
        .args(["-c", CONNECTIONS, "-r", KEYS, "-t", test])
        .args(["-n", &requests.to_string(), "-P", &pipeline.to_string()])
        .args(["--precision", "3"])
        .stdin(Stdio::null())
        // It warns that it has not been told the server's configuration.
        .stderr(Stdio::null());
    let (began, before) = (Instant::now(), server.account().cpu_ns()?);
    let output = client.output()?;
    let spent = Spent {
        cpu_ns: server.account().cpu_ns()? - before,
        wall_ns: began.elapsed().as_nanos() as u64,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let latency = output.status.success().then(|| latency(&text)).flatten();
    let latency = latency.ok_or_else(|| io::Error::other(format!("redis-benchmark: {text}")))?;
    Ok((spent, latency))
}

/// From the report of redis-benchmark: two are in its summary, the third in the first line of its
/// distribution that is as far.
fn latency(report: &str) -> Option<Latency> {
    let mut lines = report.lines();
    let tail: f64 = lines.find_map(|line| {
        let (part, rest) = line.split_once("% <= ")?;
        let part: f64 = part.trim().parse().ok()?;
        let limit = rest.split_whitespace().next()?;
        (part >= 99.9).then(|| limit.parse().ok())?
    })?;
    lines.find(|line| line.contains("latency summary"))?;
    let summary: Vec<f64> = lines
        .nth(1)?
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    // avg, min, p50, p95, p99, max.
    let [_, _, middle, _, far, _] = summary[..] else {
        return None;
    };
    Some([middle * 1e3, far * 1e3, tail * 1e3])
}

fn table(comparison: &Comparison, latencies: &[Vec<Latency>]) -> String {
    let baseline = comparison.cases.first().map_or("nothing", String::as_str);
    let ratio = format!("per CPU s x {baseline}");
    let heading = [
        "server",
        &ratio,
        "quartiles",
        "95 %",
        "CPU ns/req",
        "req per CPU s",
        "req/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (case, name) in comparison.cases.iter().enumerate() {
        // The baseline's time over this one's: how many times as many for the same time.
        let rate = comparison.ratio(0, case, Measurement::cpu_ns_per_operation);
        let cpu_ns = comparison.median(case, Measurement::cpu_ns_per_operation);
        let wall_ns = comparison.median(case, Measurement::wall_ns_per_operation);
        let mut row = vec![
            name.clone(),
            format!("{:.3}", rate.median),
            format!("{:.3}-{:.3}", rate.lower_quartile, rate.upper_quartile),
            format!("{:.3}-{:.3}", rate.low, rate.high),
            format!("{cpu_ns:.0}"),
            format!("{:.0}", 1e9 / cpu_ns),
            format!("{:.0}", 1e9 / wall_ns),
        ];
        for part in 0..3 {
            // The first one was no cycle, but to warm up.
            let figures = latencies[case].iter().skip(1).map(|latency| latency[part]);
            let spread = Spread::of(&figures.collect::<Vec<_>>(), comparison.schedule.seed);
            row.push(format!("{:.0}", spread.median));
        }
        rows.push(row);
    }
    let cycles = comparison.schedule.cycles;
    format!("{}# {cycles} cycles\n{}", comparison.host, render(&rows))
}

impl Arguments {
    /// None if help was asked for.
    fn parse() -> Result<Option<Arguments>, Box<dyn Error>> {
        use lexopt::prelude::*;

        let program = std::env::current_exe()?;
        let folder = program.parent().unwrap_or(Path::new("."));
        let mut arguments = Arguments {
            tests: ["get", "set"].map(str::to_owned).into(),
            pipelines: vec![1, 16],
            schedule: Schedule {
                cycles: 15,
                // Each runs once: it answers as many as it is told.
                window: Duration::ZERO,
                ..Schedule::default()
            },
            only: None,
            kv: folder.join("examples/kv"),
            redis: "redis-server".into(),
            csv: None,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Value(names) => {
                    arguments.tests = names.string()?.split(',').map(str::to_owned).collect();
                }
                Long("pipelines") => {
                    let depths = parser.value()?.string()?;
                    arguments.pipelines = depths
                        .split(',')
                        .map(str::parse)
                        .collect::<Result<_, _>>()?;
                }
                Long("cycles") => arguments.schedule.cycles = parser.value()?.parse()?,
                Long("only") => arguments.only = Some(parser.value()?.string()?),
                Long("kv") => arguments.kv = parser.value()?.into(),
                Long("redis") => arguments.redis = parser.value()?.into(),
                Long("csv") => {
                    arguments.csv = Some(BufWriter::new(File::create(parser.value()?)?));
                }
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(argument.unexpected().into()),
            }
        }
        Ok(Some(arguments))
    }
}

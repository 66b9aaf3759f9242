//! What does one echoed TCP message cost each server?
//!
//! All servers run at once on one core and take turns to be driven, so that ratios within a cycle
//! hold on a machine whose speed drifts. It does not show a network: all of it is loopback.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use coring_benches::{Server, Workload, raw, round_robin, servers};

const USAGE: &str = "\
echo [--connections 1,50,1000] [--bytes 64,1024] [--cycles 40] [--seed 1] [--baseline NAME,NAME]
     [--only NAME,NAME] [--csv FILE] [--rivals[=FOLDER]]

--rivals adds the servers of benches/rivals, built with `cargo build --release` there; FOLDER is
where their programs are.";

type Start = fn(&str) -> std::io::Result<Server>;

/// The servers under test, in the table's order. One more server is one more line.
const LOCAL: [(&str, Start); 8] = [
    ("coring", |name| {
        Server::thread(name, servers::coring::streams)
    }),
    ("coring sockets", |name| {
        Server::thread(name, servers::coring::sockets)
    }),
    ("raw one-shot", |name| {
        Server::thread(name, raw::echo::one_shot)
    }),
    ("raw direct", |name| Server::thread(name, raw::echo::direct)),
    ("raw linked", |name| Server::thread(name, raw::echo::linked)),
    ("raw multishot", |name| {
        Server::thread(name, raw::echo_multishot::serve)
    }),
    ("mio", |name| Server::thread(name, servers::mio::serve)),
    ("tokio", |name| Server::thread(name, servers::tokio::serve)),
];

/// The programs of benches/rivals; those that are not built are left out with a note.
const RIVALS: [&str; 6] = [
    "tokio-multi-thread",
    "smol",
    "monoio",
    "compio",
    "glommio",
    "tokio-uring",
];

struct Arguments {
    connections: Vec<usize>,
    bytes: Vec<usize>,
    workload: Workload,
    baselines: Vec<String>,
    only: Option<Vec<String>>,
    csv: Option<PathBuf>,
    rivals: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Some(arguments) = Arguments::parse()? else {
        println!("{USAGE}");
        return Ok(());
    };
    let servers = start(&arguments)?;
    let mut csv = match &arguments.csv {
        Some(path) => Some(BufWriter::new(File::create(path)?)),
        None => None,
    };
    for &message_bytes in &arguments.bytes {
        for &connections in &arguments.connections {
            let workload = Workload {
                connections,
                message_bytes,
                ..arguments.workload
            };
            let report = round_robin(&servers, workload)?;
            println!("{}", report.table(&arguments.baselines));
            if let Some(csv) = &mut csv {
                report.write_csv(csv)?;
            }
        }
    }
    Ok(())
}

fn start(arguments: &Arguments) -> Result<Vec<Server>, Box<dyn Error>> {
    let wanted = |name: &str| {
        arguments
            .only
            .as_ref()
            .is_none_or(|only| only.iter().any(|wanted| wanted == name))
    };
    let mut servers = Vec::new();
    for (name, start) in LOCAL.into_iter().filter(|(name, _)| wanted(name)) {
        servers.push(start(name)?);
    }
    for name in RIVALS.into_iter().filter(|name| wanted(name)) {
        let Some(folder) = &arguments.rivals else {
            break;
        };
        let program = folder.join(name);
        if program.exists() {
            servers.push(Server::child(name, Command::new(program))?);
        } else {
            println!("# {name} is left out: it is not built");
        }
    }
    Ok(servers)
}

impl Arguments {
    /// None if help was asked for.
    fn parse() -> Result<Option<Arguments>, Box<dyn Error>> {
        use lexopt::prelude::*;

        let mut arguments = Arguments {
            connections: vec![1, 50, 1000],
            bytes: vec![64],
            workload: Workload::default(),
            baselines: names("tokio,raw one-shot"),
            only: None,
            csv: None,
            rivals: None,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("connections") => arguments.connections = numbers(&parser.value()?.string()?)?,
                Long("bytes") => arguments.bytes = numbers(&parser.value()?.string()?)?,
                Long("cycles") => arguments.workload.cycles = parser.value()?.parse()?,
                Long("seed") => arguments.workload.seed = parser.value()?.parse()?,
                Long("baseline") => arguments.baselines = names(&parser.value()?.string()?),
                Long("only") => arguments.only = Some(names(&parser.value()?.string()?)),
                Long("csv") => arguments.csv = Some(parser.value()?.into()),
                Long("rivals") => {
                    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("rivals/target/release");
                    arguments.rivals = Some(parser.optional_value().map_or(built, PathBuf::from));
                }
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(argument.unexpected().into()),
            }
        }
        Ok(Some(arguments))
    }
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

fn numbers(list: &str) -> Result<Vec<usize>, std::num::ParseIntError> {
    list.split(',').map(str::parse).collect()
}

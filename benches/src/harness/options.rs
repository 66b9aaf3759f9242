//! The arguments of the programs that drive servers by turns, and the servers that they start.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::report::Report;
use super::round_robin::{Workload, round_robin};
use super::server::Server;

/// Starts one of the servers of this process, which gets the name that it has in tables.
pub type Start = fn(&str) -> io::Result<Server>;

/// The programs of `benches/rivals`.
const RIVALS: [&str; 6] = [
    "tokio-multi-thread",
    "smol",
    "monoio",
    "compio",
    "glommio",
    "tokio-uring",
];

/// What was asked for.
#[derive(Debug)]
pub struct Options {
    /// Each is driven in turn, with each of [`bytes`](Options::bytes).
    pub connections: Vec<usize>,
    /// Of a message, or an answer.
    pub bytes: Vec<usize>,
    /// The rest of it.
    pub workload: Workload,
    baselines: Vec<String>,
    only: Option<Vec<String>>,
    csv: Option<BufWriter<File>>,
    rivals: Option<PathBuf>,
}

impl Options {
    /// What every such program understands.
    pub const USAGE: &str = "\
     [--cycles 40] [--window-ms 100] [--seed 1] [--baseline NAME,NAME] [--only NAME,NAME]
     [--csv FILE] [--rivals[=FOLDER]]

--rivals adds the servers of benches/rivals, built with `cargo build --release` there; FOLDER is
where their programs are.";

    /// With `workload`, `connections`, `bytes` and `baselines` where the arguments say nothing. None
    /// if help was asked for.
    ///
    /// # Errors
    ///
    /// For arguments that are not understood, or a file that cannot be made.
    pub fn parse(
        workload: Workload,
        connections: &[usize],
        bytes: &[usize],
        baselines: &str,
    ) -> Result<Option<Options>, Box<dyn Error>> {
        use lexopt::prelude::*;

        let mut options = Options {
            connections: connections.to_vec(),
            bytes: bytes.to_vec(),
            workload,
            baselines: names(baselines),
            only: None,
            csv: None,
            rivals: None,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("connections") => options.connections = numbers(&parser.value()?.string()?)?,
                Long("bytes") => options.bytes = numbers(&parser.value()?.string()?)?,
                Long("cycles") => options.workload.cycles = parser.value()?.parse()?,
                Long("window-ms") => {
                    options.workload.window = Duration::from_millis(parser.value()?.parse()?);
                }
                Long("seed") => options.workload.seed = parser.value()?.parse()?,
                Long("baseline") => options.baselines = names(&parser.value()?.string()?),
                Long("only") => options.only = Some(names(&parser.value()?.string()?)),
                Long("csv") => {
                    options.csv = Some(BufWriter::new(File::create(parser.value()?)?));
                }
                Long("rivals") => {
                    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("rivals/target/release");
                    options.rivals = Some(parser.optional_value().map_or(built, PathBuf::from));
                }
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(argument.unexpected().into()),
            }
        }
        Ok(Some(options))
    }

    /// Starts those of `local`, and of the rivals with `arguments`, that were asked for. Rivals that
    /// are not built are left out with a note.
    ///
    /// # Errors
    ///
    /// If one does not start.
    pub fn start(&self, local: &[(&str, Start)], arguments: &[&str]) -> io::Result<Vec<Server>> {
        let wanted = |name: &str| {
            let only = self.only.as_ref();
            only.is_none_or(|only| only.iter().any(|wanted| wanted == name))
        };
        let mut servers = Vec::new();
        for (name, start) in local.iter().filter(|(name, _)| wanted(name)) {
            servers.push(start(name)?);
        }
        for name in RIVALS.into_iter().filter(|name| wanted(name)) {
            let Some(folder) = &self.rivals else {
                break;
            };
            let program = folder.join(name);
            if program.exists() {
                let mut command = Command::new(program);
                command.args(arguments);
                servers.push(Server::child(name, command)?);
            } else {
                println!("# {name} is left out: it is not built");
            }
        }
        Ok(servers)
    }

    /// Drives `servers`, prints the table, and adds the samples to the file that was asked for.
    ///
    /// # Errors
    ///
    /// As [`round_robin`], and those of the file.
    pub fn measure(&mut self, servers: &[Server], workload: Workload) -> io::Result<Report> {
        let report = round_robin(servers, workload)?;
        println!("{}", report.table(&self.baselines));
        if let Some(csv) = &mut self.csv {
            report.write_csv(csv)?;
        }
        Ok(report)
    }
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

fn numbers(list: &str) -> Result<Vec<usize>, std::num::ParseIntError> {
    list.split(',').map(str::parse).collect()
}

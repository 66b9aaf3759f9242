//! The arguments of the programs that drive servers by turns, and the servers that they start.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::compare::Schedule;
use super::report::Report;
use super::round_robin::{Workload, round_robin};
use super::server::Server;
use crate::servers::set_buffer_bytes;

/// Serves until the flag is set and one more connection comes in.
pub type Serve = fn(TcpListener, &'static AtomicBool) -> io::Result<()>;

/// A server of this program's, and the name that it has in tables.
pub type Local = (&'static str, Serve);

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
    buffer_bytes: Option<usize>,
}

impl Options {
    /// What every such program understands.
    pub const USAGE: &str = "\
     [--cycles 40] [--window-ms 100] [--seed 1] [--baseline NAME,NAME] [--only NAME,NAME]
     [--csv FILE] [--buffer BYTES] [--rivals[=FOLDER]]

--buffer: of each connection, in every server but coring's, which has its own; else 16 KiB.
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
            buffer_bytes: None,
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
                Long("buffer") => options.buffer_bytes = Some(parser.value()?.parse()?),
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(argument.unexpected().into()),
            }
        }
        Ok(Some(options))
    }

    /// Starts those of `local`, and of the rivals, that were asked for, each in a process of its own
    /// with these `arguments`: all have one thread, and as many descriptors as there may be. Rivals
    /// that are not built are left out with a note.
    ///
    /// # Errors
    ///
    /// If one does not start.
    pub fn start(&self, local: &[Local], arguments: &[&str]) -> io::Result<Vec<Server>> {
        let command = |program: &Path| {
            let mut command = Command::new(program);
            command.args(arguments);
            if let Some(bytes) = self.buffer_bytes {
                command.args(["--buffer", &bytes.to_string()]);
            }
            command
        };
        let wanted = |name: &str| {
            let only = self.only.as_ref();
            only.is_none_or(|only| only.iter().any(|wanted| wanted == name))
        };
        let mut servers = Vec::new();
        for (name, _) in local.iter().filter(|(name, _)| wanted(name)) {
            let mut own = command(&std::env::current_exe()?);
            own.args(["--serve", name]);
            servers.push(Server::child(name, own)?);
        }
        for name in RIVALS.into_iter().filter(|name| wanted(name)) {
            let Some(folder) = &self.rivals else {
                break;
            };
            let program = folder.join(name);
            if program.exists() {
                servers.push(Server::child(name, command(&program))?);
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

/// If this process is to be one of `local`, as [`Options::start`] says with these `arguments`: serves
/// until it is killed.
///
/// # Errors
///
/// What the server gives, or if there is none of that name.
pub fn serve_if_told(local: &[Local], arguments: &[&str]) -> Option<io::Result<()>> {
    static STOP: AtomicBool = AtomicBool::new(false);
    let words: Vec<String> = std::env::args().skip(1).collect();
    let after = |word: &str| words.iter().skip_while(|given| *given != word).nth(1);
    let name = after("--serve")?;
    if !arguments
        .iter()
        .all(|word| words.iter().any(|given| given == word))
    {
        return None;
    }
    if let Some(bytes) = after("--buffer").and_then(|bytes| bytes.parse().ok()) {
        set_buffer_bytes(bytes);
    }
    Some((|| {
        let (_, serve) = local
            .iter()
            .find(|(local, _)| local == name)
            .ok_or_else(|| io::Error::other(format!("no server {name}")))?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("listening on {}", listener.local_addr()?);
        serve(listener, &STOP)
    })())
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

fn numbers(list: &str) -> Result<Vec<usize>, std::num::ParseIntError> {
    list.split(',').map(str::parse).collect()
}

/// What is measured, and how often.
pub type Groups = (Vec<String>, Schedule);

/// Groups of measurements, by default `all`, and a schedule, from the command line of a program that
/// takes nothing else. Nothing if it was asked for its `usage`, and has told that.
///
/// # Errors
///
/// What the words are wrong in.
pub fn groups_and_schedule(
    usage: &str,
    all: &[&str],
    mut schedule: Schedule,
) -> Result<Option<Groups>, Box<dyn Error>> {
    let mut groups: Vec<String> = all.iter().map(|&name| name.to_owned()).collect();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        use lexopt::prelude::*;
        match argument {
            Value(names) => groups = names.string()?.split(',').map(str::to_owned).collect(),
            Long("cycles") => schedule.cycles = parser.value()?.parse()?,
            Long("window-ms") => {
                schedule.window = Duration::from_millis(parser.value()?.parse()?);
            }
            Long("help") | Short('h') => {
                println!("{usage}");
                return Ok(None);
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(Some((groups, schedule)))
}

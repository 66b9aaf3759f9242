//! All servers up, one driven at a time, in an order shuffled each cycle.

use std::io;
use std::time::Duration;

use super::affinity::{CLIENT_CORE, pin_to};
use super::calls::Calls;
use super::client::{Load, Meters, drive};
use super::host::Host;
use super::messages::{Memory, Messages};
use super::report::{Report, Sample};
use super::server::Server;
use super::syscalls::Counters;
use crate::raw::{Turns, ring};

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// A message that comes back, on a connection that stays.
    Echo,
    /// A connection that is made, answered, and closed by the server.
    Connection,
}

/// What the client asks of every server.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// What a request is.
    pub request: Request,
    /// Connections per server at a time, each with one request in flight.
    pub connections: usize,
    /// Bytes of a message, or of the answer to a connection, 1 at most.
    pub message_bytes: usize,
    /// Timed windows per server.
    pub cycles: u32,
    /// How long a server is driven at a time; longer if a round of all connections takes longer.
    pub window: Duration,
    /// The part of each window, from its beginning, that is not measured; a round of all connections
    /// at least.
    pub discard: Duration,
    /// Further windows per server in which system calls are counted, and nothing else is used.
    pub counted_cycles: u32,
    /// Of the shuffles.
    pub seed: u64,
}

impl Default for Workload {
    fn default() -> Workload {
        Workload {
            request: Request::Echo,
            connections: 1,
            message_bytes: 64,
            cycles: 40,
            window: Duration::from_millis(100),
            discard: Duration::from_millis(20),
            counted_cycles: 3,
            seed: 1,
        }
    }
}

/// Drives every server in every cycle, from the calling thread, which it pins to the client's core.
///
/// # Errors
///
/// If a connection fails, a server is silent for seconds or answers other bytes than it was sent;
/// the error names the server.
pub fn round_robin(servers: &[Server], workload: Workload) -> io::Result<Report> {
    pin_to(CLIENT_CORE)?;
    let mut ring = ring()?;
    let mut turns = Turns::new(&mut ring)?;
    let mut loads = loads(servers, workload)?;
    let mut report = Report {
        host: Host::here(),
        workload,
        servers: servers
            .iter()
            .map(|server| server.name().to_owned())
            .collect(),
        samples: Vec::new(),
        uncounted: None,
    };
    let mut random = fastrand::Rng::with_seed(workload.seed);
    let mut order: Vec<usize> = (0..servers.len()).collect();
    for cycle in 0..workload.cycles + workload.counted_cycles {
        random.shuffle(&mut order);
        for &server in &order {
            let account = servers[server].account();
            let mut counters = None;
            if cycle >= workload.cycles {
                match Counters::attach(account) {
                    Ok(attached) => counters = Some(attached),
                    Err(error) => {
                        report.uncounted = Some(error.to_string());
                        return Ok(report);
                    }
                }
            }
            let mut meters = Meters { account, counters };
            let Workload {
                window, discard, ..
            } = workload;
            let load = &mut *loads[server];
            let window = drive(load, &mut turns, window, discard, &mut meters)
                .map_err(|error| blame(&servers[server], &error))?;
            report.samples.push(Sample::of(cycle, server, &window));
        }
    }
    Ok(report)
}

fn loads(servers: &[Server], workload: Workload) -> io::Result<Vec<Box<dyn Load>>> {
    let Workload {
        connections,
        message_bytes: bytes,
        ..
    } = workload;
    let memory = match workload.request {
        Request::Echo => Memory::new(connections, bytes),
        Request::Connection => Memory::new(0, 0),
    };
    let load = |server: &Server| -> io::Result<Box<dyn Load>> {
        let address = server.address();
        Ok(match workload.request {
            Request::Echo => {
                let memory = memory.clone();
                Box::new(Messages::connect(address, connections, bytes, memory)?)
            }
            Request::Connection => Box::new(Calls::new(address, connections, bytes)?),
        })
    };
    let blamed = |server| load(server).map_err(|error| blame(server, &error));
    servers.iter().map(blamed).collect()
}

fn blame(server: &Server, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", server.name()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Report, Request, Workload, round_robin};
    use crate::harness::server::Server;

    #[test]
    fn every_server_has_a_sample_per_cycle() {
        let servers = [
            Server::thread("raw", crate::raw::echo::one_shot).expect("a server"),
            Server::thread("linked", crate::raw::echo::linked).expect("a server"),
            Server::thread("multishot", crate::raw::echo_multishot::serve).expect("a server"),
            Server::thread("mio", crate::servers::mio::serve).expect("a server"),
            Server::thread("tokio", crate::servers::tokio::serve).expect("a server"),
        ];
        let workload = Workload {
            connections: 3,
            message_bytes: 40_000,
            cycles: 2,
            window: Duration::from_millis(100),
            discard: Duration::from_millis(1),
            counted_cycles: 0,
            ..Workload::default()
        };
        let report = round_robin(&servers, workload).expect("a run");
        all_have_answered(&servers, &report);
    }

    #[test]
    fn connections_are_accepted_answered_and_closed() {
        let closing = [
            Server::thread("raw", crate::raw::accept::close).expect("a server"),
            Server::thread("system call", crate::raw::accept::close_at_once).expect("a server"),
            Server::thread("blocking", crate::servers::blocking::close).expect("a server"),
            Server::thread("mio", crate::servers::mio::close).expect("a server"),
            Server::thread("tokio", crate::servers::tokio::close).expect("a server"),
            Server::thread("coring", crate::servers::coring::close).expect("a server"),
        ];
        let answering = [
            Server::thread("raw", crate::raw::accept::answer).expect("a server"),
            Server::thread("blocking", crate::servers::blocking::answer).expect("a server"),
            Server::thread("mio", crate::servers::mio::answer).expect("a server"),
            Server::thread("tokio", crate::servers::tokio::answer).expect("a server"),
            Server::thread("coring", crate::servers::coring::answer).expect("a server"),
            Server::thread("streams", crate::servers::coring::answer_streams).expect("a server"),
        ];
        for (message_bytes, servers) in [(0, &closing), (1, &answering)] {
            let workload = Workload {
                request: Request::Connection,
                connections: 3,
                message_bytes,
                cycles: 2,
                window: Duration::from_millis(20),
                discard: Duration::from_millis(1),
                counted_cycles: 0,
                ..Workload::default()
            };
            let report = round_robin(servers, workload).expect("a run");
            all_have_answered(servers, &report);
        }
    }

    fn all_have_answered(servers: &[Server], report: &Report) {
        assert_eq!(report.samples.len(), 2 * servers.len());
        // How many requests fit into a window is the machine's affair: over the run, one at least.
        for (at, server) in servers.iter().enumerate() {
            let samples = report.samples.iter().filter(|sample| sample.server == at);
            let requests: u64 = samples.map(|sample| sample.requests).sum();
            assert!(requests > 0, "{} has answered nothing", server.name());
        }
    }
}

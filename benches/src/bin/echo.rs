//! What does one echoed TCP message cost each server?
//!
//! All servers run at once on one core and take turns to be driven, so that ratios within a cycle
//! hold on a machine whose speed drifts. It does not show a network: all of it is loopback.

use std::error::Error;

use coring_benches::{Options, Server, Start, Workload, raw, servers};

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

fn main() -> Result<(), Box<dyn Error>> {
    let baselines = "tokio,raw one-shot";
    let parsed = Options::parse(Workload::default(), &[1, 50, 1000], &[64], baselines)?;
    let Some(mut options) = parsed else {
        println!(
            "echo [--connections 1,50,1000] [--bytes 64,1024]\n{}",
            Options::USAGE
        );
        return Ok(());
    };
    let servers = options.start(&LOCAL, &[])?;
    for message_bytes in options.bytes.clone() {
        for connections in options.connections.clone() {
            let workload = Workload {
                connections,
                message_bytes,
                ..options.workload
            };
            options.measure(&servers, workload)?;
        }
    }
    Ok(())
}

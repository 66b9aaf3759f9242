//! What does one echoed TCP message cost each server?
//!
//! All servers run at once on one core and take turns to be driven, so that ratios within a cycle
//! hold on a machine whose speed drifts. It does not show a network: all of it is loopback.

use std::error::Error;

use coring_benches::{Local, Options, Workload, raw, serve_if_told, servers};

/// The servers under test, in the table's order. One more server is one more line.
const LOCAL: [Local; 8] = [
    ("coring", servers::coring::streams),
    ("coring sockets", servers::coring::sockets),
    ("raw one-shot", raw::echo::one_shot),
    ("raw direct", raw::echo::direct),
    ("raw linked", raw::echo::linked),
    ("raw multishot", raw::echo_multishot::serve),
    ("mio", servers::mio::serve),
    ("tokio", servers::tokio::serve),
];

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(served) = serve_if_told(&LOCAL, &[]) {
        return Ok(served?);
    }
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

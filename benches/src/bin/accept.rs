//! What does a connection cost that is accepted and closed?
//!
//! The server does nothing but accept and close, or makes a task for each connection that answers
//! one byte and closes. As `echo`, all servers are up and driven by turns. The client resets each
//! connection once the server has closed it, so that none waits for its last minute: it does not
//! show what many connections in TIME_WAIT cost. Nor does it show the most that a server could
//! accept: the client needs more time for a connection than most servers.

use std::error::Error;

use coring_benches::{Local, Options, Request, Workload, raw, serve_if_told, servers};

/// Those that close at once. One more server is one more line.
const CLOSING: [Local; 6] = [
    ("coring", servers::coring::close),
    ("raw", raw::accept::close),
    ("raw close(2)", raw::accept::close_at_once),
    ("blocking", servers::blocking::close),
    ("mio", servers::mio::close),
    ("tokio", servers::tokio::close),
];

/// Those that answer first.
const ANSWERING: [Local; 6] = [
    ("coring", servers::coring::answer_streams),
    ("coring sockets", servers::coring::answer),
    ("raw", raw::accept::answer),
    ("blocking", servers::blocking::answer),
    ("mio", servers::mio::answer),
    ("tokio", servers::tokio::answer),
];

/// What tells a process, rivals too, which of them it is to be.
const CLOSE: &[&str] = &["--close"];
const ANSWER: &[&str] = &["--answer"];

fn main() -> Result<(), Box<dyn Error>> {
    let lists = [(&CLOSING, CLOSE), (&ANSWERING, ANSWER)];
    for (list, arguments) in lists {
        if let Some(served) = serve_if_told(list, arguments) {
            return Ok(served?);
        }
    }
    let workload = Workload {
        request: Request::Connection,
        ..Workload::default()
    };
    let Some(mut options) = Options::parse(workload, &[1, 50], &[0, 1], "tokio,raw")? else {
        println!(
            "accept [--connections 1,50] [--bytes 0,1]\n{}\n\n\
             --connections: how many at a time; --bytes: of the answer, 0 or 1.",
            Options::USAGE
        );
        return Ok(());
    };
    for message_bytes in options.bytes.clone() {
        let servers = match message_bytes {
            0 => options.start(&CLOSING, CLOSE)?,
            _ => options.start(&ANSWERING, ANSWER)?,
        };
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

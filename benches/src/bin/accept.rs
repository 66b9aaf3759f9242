//! What does a connection cost that is accepted and closed?
//!
//! The server does nothing but accept and close, or makes a task for each connection that answers
//! one byte and closes. As `echo`, all servers are up and driven by turns. The client resets each
//! connection once the server has closed it, so that none waits for its last minute: it does not
//! show what many connections in TIME_WAIT cost. Nor does it show the most that a server could
//! accept: the client needs more time for a connection than most servers.

use std::error::Error;

use coring_benches::{Options, Request, Server, Start, Workload, raw, servers};

/// Those that close at once. One more server is one more line.
const CLOSING: [(&str, Start); 6] = [
    ("coring", |name| {
        Server::thread(name, servers::coring::close)
    }),
    ("raw", |name| Server::thread(name, raw::accept::close)),
    ("raw close(2)", |name| {
        Server::thread(name, raw::accept::close_at_once)
    }),
    ("blocking", |name| {
        Server::thread(name, servers::blocking::close)
    }),
    ("mio", |name| Server::thread(name, servers::mio::close)),
    ("tokio", |name| Server::thread(name, servers::tokio::close)),
];

/// Those that answer first.
const ANSWERING: [(&str, Start); 6] = [
    ("coring", |name| {
        Server::thread(name, servers::coring::answer_streams)
    }),
    ("coring sockets", |name| {
        Server::thread(name, servers::coring::answer)
    }),
    ("raw", |name| Server::thread(name, raw::accept::answer)),
    ("blocking", |name| {
        Server::thread(name, servers::blocking::answer)
    }),
    ("mio", |name| Server::thread(name, servers::mio::answer)),
    ("tokio", |name| Server::thread(name, servers::tokio::answer)),
];

fn main() -> Result<(), Box<dyn Error>> {
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
            0 => options.start(&CLOSING, &["--close"])?,
            _ => options.start(&ANSWERING, &["--answer"])?,
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

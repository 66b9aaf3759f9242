//! Answers each datagram with itself.
//!
//! Run it with `cargo run --release --example udp_echo -- [ADDR]`, and try `nc -u 127.0.0.1 7007`.
//! Ctrl-C ends it, and says how many there were.

use std::env;
use std::io;

use coring::net::UdpSocket;
use coring::{BufResult, IoBuf, is_cancelled, ok, run};

/// As large as a datagram can be.
const DATAGRAM_BYTES_MAX: usize = 65_535;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    let socket = UdpSocket::bind(addr.as_deref().unwrap_or("127.0.0.1:7007"))?;
    println!("listening on {}", socket.local_addr()?);
    run(async {
        let mut buf = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        let mut answered = 0u64;
        loop {
            // The buffer moves in, and comes back.
            let BufResult(received, back) = socket.recv_from(buf).await;
            let (n, from) = match received {
                Ok(received) => received,
                // Ctrl-C is a request to stop.
                Err(error) if is_cancelled(&error) => {
                    println!("{answered} answered");
                    return ok(());
                }
                Err(error) => return Err(error),
            };
            let BufResult(sent, back) = socket.send_to(back.slice(..n), from).await;
            // Whoever has gone away needs no answer.
            answered += u64::from(sent.is_ok());
            buf = back.into_inner();
        }
    })
}

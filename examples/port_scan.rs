//! Says on which ports of a host somebody listens: thousands of connections, some hundred at a time,
//! each with a limit.
//!
//! Run it with `cargo run --release --example port_scan -- HOST [FROM-TO]`, on hosts of your own.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use coring::net::{TcpStream, lookup_host};
use coring::sync::Semaphore;
use coring::{TaskGroup, now, ok, run, task_group, wait_for};

const AT_ONCE_MAX: usize = 500;
const LIMIT: Duration = Duration::from_secs(1);

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| "localhost".to_owned());
    let (from, to) = match arguments.next() {
        Some(range) => ports(&range)?,
        None => (1, u16::MAX),
    };
    run(async {
        let addr = lookup_host((host, from)).await?[0];
        let begin = now();
        let places = Rc::new(Semaphore::new(AT_ONCE_MAX));
        let open = task_group(async |g: TaskGroup<io::Error>| {
            let mut probes = Vec::new();
            for port in from..=to {
                // Waits until one of the others is done.
                let place = places.clone().acquire_owned().await?;
                let addr = SocketAddr::new(addr.ip(), port);
                probes.push(g.create_task(async move {
                    let connected = wait_for(TcpStream::connect(addr), LIMIT).await;
                    drop(place);
                    ok(connected.is_ok().then_some(port))
                }));
            }
            let mut open = Vec::new();
            for probe in probes {
                open.extend(probe.await?);
            }
            ok(open)
        })
        .await?;
        for port in open {
            println!("{port} is open");
        }
        println!("{} ports in {:?}", u32::from(to - from) + 1, now() - begin);
        ok(())
    })
}

/// A range like `1-1024`.
fn ports(range: &str) -> io::Result<(u16, u16)> {
    let both = range.split_once('-').unwrap_or((range, range));
    match (both.0.parse(), both.1.parse()) {
        (Ok(from), Ok(to)) if from <= to => Ok((from, to)),
        _ => Err(io::Error::other(format!(
            "`{range}` is no range of ports: expected one like 1-1024"
        ))),
    }
}

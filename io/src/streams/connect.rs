//! Connecting by name.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use coring_runtime::{Timer, is_cancelled};
use futures_util::StreamExt;
use futures_util::future::{Either, pending, select};
use futures_util::stream::FuturesUnordered;

use super::{StreamReader, StreamWriter};
use crate::net::{TcpStream, ToHost, ToUnixAddr, UnixStream, lookup_host};

/// How long an address has before the next one is tried as well ("Connection Attempt Delay",
/// RFC 8305, section 8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to a host by its name (asyncio's `open_connection`). Small writes go out at once
/// (TCP_NODELAY).
///
/// If it has several addresses they are tried as RFC 8305 ("happy eyeballs") says: those of IPv6 and
/// IPv4 by turns, the next one when the last has failed, or has had 250 ms. The first connection
/// that is made is taken, and the others are given up.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect, but that peers may see connections
/// that are closed at once.
///
/// # Errors
/// `InvalidInput` for a text that is no host with a port; what [`lookup_host`] gives; if no address
/// can be connected to, why, for each of them;
/// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too.
///
/// # Examples
///
/// ```
/// use coring::{open_connection, start_server};
///
/// # coring::run(async {
/// let server = start_server("localhost:0", async |mut reader, mut writer| {
///     let line = reader.readline().await?;
///     writer.write(line);
///     coring::ok(())
/// }).await?;
/// let (mut reader, mut writer) = open_connection(server.local_addr()?.to_string()).await?;
/// writer.write("hello\n");
/// assert_eq!(&reader.readline().await?[..], b"hello\n");
/// # coring::ok(()) }).unwrap();
/// ```
pub async fn open_connection(host: impl ToHost) -> io::Result<(StreamReader, StreamWriter)> {
    let addrs = by_turns(lookup_host(host).await?);
    let stream = connect_any(addrs, TcpStream::connect).await?;
    stream.set_nodelay(true)?;
    Ok(stream.into_streams())
}

/// Connects to a socket of this machine, a path or a name.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect, but that the peer may see a
/// connection that is closed at once.
///
/// # Errors
/// As [`UnixStream::connect`].
pub async fn open_unix_connection(
    addr: impl ToUnixAddr,
) -> io::Result<(StreamReader, StreamWriter)> {
    Ok(UnixStream::connect(addr).await?.into_streams())
}

/// The addresses of both families by turns, beginning with the first; else in their order.
fn by_turns(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addrs.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addrs
        .into_iter()
        .partition(|addr| addr.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    loop {
        let before = turns.len();
        turns.extend(first.next());
        turns.extend(second.next());
        if turns.len() == before {
            return turns;
        }
    }
}

/// The first connection that is made.
async fn connect_any<T>(
    addrs: Vec<SocketAddr>,
    connect: impl AsyncFn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut addrs = addrs.into_iter();
    let attempt = async |addr| (addr, connect(addr).await);
    let mut attempts = FuturesUnordered::new();
    let mut errors = Vec::new();
    loop {
        match addrs.next() {
            Some(addr) => attempts.push(attempt(addr)),
            None if attempts.is_empty() => return Err(all_of(errors)),
            None => {}
        }
        let more = addrs.len() > 0;
        let delay = pin!(async {
            if more {
                Timer::after(ATTEMPT_DELAY).await
            } else {
                pending().await
            }
        });
        match select(attempts.next(), delay).await {
            Either::Left((Some((_, Ok(stream))), _)) => return Ok(stream),
            Either::Left((Some((_, Err(error))), _)) if is_cancelled(&error) => return Err(error),
            Either::Left((Some((addr, Err(error))), _)) => errors.push((addr, error)),
            Either::Left((None, _)) => {}
            Either::Right((waited, _)) => waited?,
        }
    }
}

/// One error, or all of them in one.
fn all_of(mut errors: Vec<(SocketAddr, io::Error)>) -> io::Error {
    let Some((_, first)) = errors.first() else {
        return io::Error::new(io::ErrorKind::NotFound, "it has no address");
    };
    let (kind, text) = (first.kind(), first.to_string());
    if errors.iter().all(|(_, error)| error.to_string() == text) {
        return errors.swap_remove(0).1;
    }
    let all: Vec<_> = errors
        .iter()
        .map(|(addr, error)| format!("{addr}: {error}"))
        .collect();
    io::Error::new(kind, all.join("; "))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use coring_runtime::{Runner, now, sim};

    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn run<F: Future>(main: F) -> F::Output {
        let kernel = sim::Kernel::new();
        let mut runner = Runner::builder().sim(&kernel).build().expect("a simulator");
        runner.run(main)
    }

    #[test]
    fn families_take_turns() {
        let addrs = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"];
        let turns = by_turns(addrs.iter().map(|text| addr(text)).collect());
        let expected = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"];
        assert_eq!(turns, expected.map(addr));
    }

    /// What becomes of an attempt after how many milliseconds, by the port.
    async fn attempt(addr: SocketAddr) -> io::Result<u16> {
        match addr.port() {
            port @ ..100 => {
                Timer::after(Duration::from_millis(u64::from(port) * 10)).await?;
                Ok(port)
            }
            port => {
                Timer::after(Duration::from_millis(u64::from(port - 100))).await?;
                Err(io::Error::other(format!("failure {port}")))
            }
        }
    }

    fn addrs(ports: &[u16]) -> Vec<SocketAddr> {
        let of_port = |&port| SocketAddr::from(([127, 0, 0, 1], port));
        ports.iter().map(of_port).collect()
    }

    /// 178: `test_one_successful`, `test_first_error_second_successful`,
    /// `test_first_timeout_second_successful`.
    #[test]
    fn b178_first_connection_that_is_made_is_taken() {
        run(async {
            let begin = now();
            assert_eq!(connect_any(addrs(&[1]), attempt).await.expect("one"), 1);
            assert_eq!((now() - begin).as_millis(), 10);
            // The second at once, since the first has failed.
            let begin = now();
            assert_eq!(
                connect_any(addrs(&[105, 2]), attempt).await.expect("one"),
                2
            );
            assert_eq!((now() - begin).as_millis(), 25);
            // The second after the delay, beside the first.
            let begin = now();
            assert_eq!(connect_any(addrs(&[99, 1]), attempt).await.expect("one"), 1);
            assert_eq!((now() - begin).as_millis(), 260);
            let begin = now();
            assert_eq!(
                connect_any(addrs(&[26, 99]), attempt).await.expect("one"),
                26
            );
            assert_eq!((now() - begin).as_millis(), 260);
        });
    }

    /// 178: `test_none_successful`, `test_empty`.
    #[test]
    fn b178_failure_says_all() {
        run(async {
            let error = connect_any(addrs(&[]), attempt).await.expect_err("none");
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            let error = connect_any(addrs(&[103]), attempt).await.expect_err("none");
            assert_eq!(error.to_string(), "failure 103");
            let error = connect_any(addrs(&[103, 104]), attempt).await;
            assert_eq!(
                error.expect_err("none").to_string(),
                "127.0.0.1:103: failure 103; 127.0.0.1:104: failure 104"
            );
        });
    }

    #[test]
    fn losers_are_given_up() {
        let begun = RefCell::new(Vec::new());
        struct Given<'a>(&'a RefCell<Vec<u16>>, u16);
        impl Drop for Given<'_> {
            fn drop(&mut self) {
                self.0.borrow_mut().push(self.1);
            }
        }
        run(async {
            let winner = connect_any(addrs(&[99, 98, 1]), async |addr| {
                let _given = Given(&begun, addr.port());
                attempt(addr).await
            });
            assert_eq!(winner.await.expect("one"), 1);
        });
        let mut given_up = begun.into_inner();
        given_up.sort_unstable();
        assert_eq!(given_up, [1, 98, 99]);
    }
}

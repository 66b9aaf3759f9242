//! Work over a connection whose other end is a thread on the client's core.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::affinity::{CLIENT_CORE, pin_to, thread_id};
use super::compare::Spent;
use super::cpu::Account;

/// Two ends of a connection.
///
/// # Errors
///
/// If there is no port, or no descriptor.
pub fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    one.set_nodelay(true)?;
    other.set_nodelay(true)?;
    Ok((one, other))
}

/// A peer on the other core. Gives its CPU time.
pub fn peer(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> JoinHandle<io::Result<u64>> {
    thread::spawn(move || {
        pin_to(CLIENT_CORE)?;
        work()?;
        Account::Threads(vec![thread_id()]).cpu_ns()
    })
}

/// What this process spent without its peers: worker threads of the kernel's included.
///
/// # Errors
///
/// Those of the work, and of the peers.
pub fn spent(
    peers: impl IntoIterator<Item = JoinHandle<io::Result<u64>>>,
    work: impl FnOnce() -> io::Result<()>,
) -> io::Result<Spent> {
    let process = Account::Process(std::process::id() as libc::pid_t);
    let (began, before) = (Instant::now(), process.cpu_ns()?);
    work()?;
    let wall_ns = began.elapsed().as_nanos() as u64;
    let mut theirs = 0;
    for peer in peers {
        theirs += peer
            .join()
            .map_err(|_| io::Error::other("a peer panicked"))??;
    }
    let cpu_ns = (process.cpu_ns()? - before).saturating_sub(theirs);
    Ok(Spent { cpu_ns, wall_ns })
}

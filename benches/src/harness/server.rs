//! Echo servers under test: threads of this process, or child processes, pinned to one core.

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::affinity::{SERVER_CORE, pin_to, thread_id};
use super::child::as_server;
use super::cpu::Account;

/// How long a program may take until it listens.
const LISTENS_WITHIN_MS: u32 = 5_000;

/// An echo server that listens. Dropping it stops it, if it was started here.
#[derive(Debug)]
pub struct Server {
    name: String,
    address: SocketAddr,
    account: Account,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Thread {
        stop: &'static AtomicBool,
        thread: Option<JoinHandle<io::Result<()>>>,
    },
    Child(Child),
    Elsewhere,
}

impl Server {
    /// A server that somebody else started and stops.
    pub fn elsewhere(name: &str, address: SocketAddr, account: Account) -> Server {
        Server {
            name: name.to_owned(),
            address,
            account,
            running: Running::Elsewhere,
        }
    }

    /// Runs `body` on a thread of its own with a listener on a free loopback port.
    ///
    /// `body` checks the flag after each connection that it accepts, and returns when it is set:
    /// a stop sets the flag and then connects once, so that an idle server needs no timer.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started or pinned, or nothing can listen on loopback.
    pub fn thread<F>(name: &str, body: F) -> io::Result<Server>
    where
        F: FnOnce(TcpListener, &'static AtomicBool) -> io::Result<()> + Send + 'static,
    {
        Server::thread_listening(name, |listening, stop| {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            listening.at(listener.local_addr()?);
            body(listener, stop)
        })
    }

    /// Runs `body` on a thread of its own; `body` makes its own listener and says where it is.
    ///
    /// The flag works as with [`Server::thread`].
    ///
    /// # Errors
    ///
    /// If the thread cannot be started or pinned, or what `body` returns before it listens.
    pub fn thread_listening<F>(name: &str, body: F) -> io::Result<Server>
    where
        F: FnOnce(Listening, &'static AtomicBool) -> io::Result<()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel();
        // For good, so that tasks can have it; a program starts a handful of servers.
        let stop: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                pin_to(SERVER_CORE)?;
                body(Listening(sender), stop)
            })?;
        let Ok((address, threads)) = receiver.recv() else {
            return Err(match thread.join() {
                Ok(Err(error)) => error,
                Ok(Ok(())) => io::Error::other(format!("{name} returned before it listened")),
                Err(_) => io::Error::other(format!("{name} panicked before it listened")),
            });
        };
        let running = Running::Thread {
            stop,
            thread: Some(thread),
        };
        Ok(Server {
            name: name.to_owned(),
            address,
            account: Account::Threads(threads),
            running,
        })
    }

    /// Starts `command`, which prints `listening on ADDR` as its first line on standard output.
    ///
    /// The child dies with the thread that calls this, whatever that thread dies of.
    ///
    /// # Errors
    ///
    /// If the program cannot be started, or its first line is another.
    pub fn child(name: &str, mut command: Command) -> io::Result<Server> {
        let mut child = started(&mut command, Stdio::piped())?;
        match announced(&mut child) {
            Ok(address) => Server::of_child(name, address, child),
            Err(error) => Err(failed(name, &error, child)),
        }
    }

    /// Starts `command`, which listens on `address` within seconds, and says so to nobody.
    ///
    /// # Errors
    ///
    /// If the program cannot be started, or nobody listens there.
    pub fn child_at(name: &str, mut command: Command, address: SocketAddr) -> io::Result<Server> {
        let child = started(&mut command, Stdio::null())?;
        for _ in 0..LISTENS_WITHIN_MS {
            if TcpStream::connect(address).is_ok() {
                return Server::of_child(name, address, child);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(failed(name, &"does not listen", child))
    }

    fn of_child(name: &str, address: SocketAddr, child: Child) -> io::Result<Server> {
        let id = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
        Ok(Server {
            name: name.to_owned(),
            address,
            account: Account::Process(id),
            running: Running::Child(child),
        })
    }

    /// The name it has in tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The threads whose cost is its cost.
    pub fn account(&self) -> &Account {
        &self.account
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Thread { stop, thread } => {
                stop.store(true, Ordering::Release);
                // Only wakes the server: one that has ended already refuses, and that is fine.
                TcpStream::connect(self.address).ok();
                match thread.take().map(JoinHandle::join) {
                    Some(Ok(Err(error))) => complain(format_args!("{}: {error}", self.name)),
                    Some(Err(_)) => complain(format_args!("{}: panicked", self.name)),
                    Some(Ok(Ok(()))) | None => {}
                }
            }
            Running::Child(child) => {
                child.kill().ok();
                child.wait().ok();
            }
            Running::Elsewhere => {}
        }
    }
}

fn complain(what: fmt::Arguments<'_>) {
    eprintln!("{what}");
}

/// The word a server thread gives once it listens.
#[derive(Debug)]
pub struct Listening(Sender<(SocketAddr, Vec<libc::pid_t>)>);

impl Listening {
    /// The calling thread serves `address`, alone.
    pub fn at(self, address: SocketAddr) {
        self.at_with(address, vec![thread_id()]);
    }

    /// These threads together serve `address`.
    pub fn at_with(self, address: SocketAddr, threads: Vec<libc::pid_t>) {
        // Nobody listens only if the harness's thread has panicked, which it reports itself.
        self.0.send((address, threads)).ok();
    }
}

fn started(command: &mut Command, output: Stdio) -> io::Result<Child> {
    as_server(command);
    command.stdin(Stdio::null()).stdout(output).spawn()
}

/// It may have ended by itself, which is then worth reporting.
fn failed(name: &str, error: &dyn fmt::Display, mut child: Child) -> io::Error {
    child.kill().ok();
    match child.wait() {
        Ok(status) => io::Error::other(format!("{name}: {error} ({status})")),
        Err(_) => io::Error::other(format!("{name}: {error}")),
    }
}

fn announced(child: &mut Child) -> io::Result<SocketAddr> {
    let output = child
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("no standard output"))?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    line.trim()
        .strip_prefix("listening on ")
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| io::Error::other(format!("expected `listening on ADDR`, not {line:?}")))
}

//! mio by hand: edge-triggered epoll, no tasks, and no read that is sure to find nothing.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::buffer_bytes;

/// What becomes of a connection that is not kept.
type Welcome = fn(TcpStream) -> io::Result<()>;

const LISTENER: Token = Token(usize::MAX);

/// Events that one poll can return.
const EVENTS: usize = 1024;

/// Serves until `stop` is set and one more connection comes in.
///
/// # Errors
///
/// If the poll or the listener fails.
pub fn serve(listener: std::net::TcpListener, stop: &AtomicBool) -> io::Result<()> {
    let (listener, mut poll) = watch(listener)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            if event.token() == LISTENER {
                if !accept(&poll, &listener, &mut connections, stop)? {
                    return Ok(());
                }
                continue;
            }
            let slot = &mut connections[event.token().0];
            if let Some(connection) = slot
                && connection.ready().is_err()
            {
                *slot = None;
            }
        }
    }
}

/// A poll that tells of connections.
fn watch(listener: std::net::TcpListener) -> io::Result<(TcpListener, Poll)> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    Ok((listener, poll))
}

fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    loop {
        match poll.poll(events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

/// Accepts all that wait; false if it is time to stop.
fn accept(
    poll: &Poll,
    listener: &TcpListener,
    connections: &mut Vec<Option<Connection>>,
    stop: &AtomicBool,
) -> io::Result<bool> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        if stop.load(Ordering::Acquire) {
            return Ok(false);
        }
        stream.set_nodelay(true)?;
        let free = connections
            .iter()
            .position(Option::is_none)
            .unwrap_or(connections.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut stream, Token(free), interest)?;
        let buffer = vec![0; buffer_bytes()].into();
        let connection = Connection {
            stream,
            buffer,
            unsent: 0..0,
        };
        if free == connections.len() {
            connections.push(Some(connection));
        } else {
            connections[free] = Some(connection);
        }
    }
}

/// Accepts and closes until `stop` is set and one more connection comes in.
///
/// # Errors
///
/// As [`serve`].
pub fn close(listener: std::net::TcpListener, stop: &AtomicBool) -> io::Result<()> {
    welcome(listener, stop, |stream| {
        drop(stream);
        Ok(())
    })
}

/// As [`close`], with an answer of one byte before: there is always room for it.
///
/// # Errors
///
/// As [`serve`].
pub fn answer(listener: std::net::TcpListener, stop: &AtomicBool) -> io::Result<()> {
    welcome(listener, stop, |mut stream| {
        stream.set_nodelay(true)?;
        // A connection that fails ends itself only.
        stream.write_all(b"x").ok();
        Ok(())
    })
}

fn welcome(listener: std::net::TcpListener, stop: &AtomicBool, welcome: Welcome) -> io::Result<()> {
    let (listener, mut poll) = watch(listener)?;
    let mut events = Events::with_capacity(EVENTS);
    loop {
        wait(&mut poll, &mut events)?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => welcome(stream)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if stop.load(Ordering::Acquire) {
            return Ok(());
        }
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
    unsent: std::ops::Range<usize>,
}

impl Connection {
    /// Echoes until the socket would block; an error ends the connection.
    fn ready(&mut self) -> io::Result<()> {
        match self.echo() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            answer => answer,
        }
    }

    fn echo(&mut self) -> io::Result<()> {
        loop {
            while !self.unsent.is_empty() {
                self.unsent.start += self.stream.write(&self.buffer[self.unsent.clone()])?;
            }
            let length = self.stream.read(&mut self.buffer)?;
            if length == 0 {
                self.stream.shutdown(Shutdown::Both)?;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.unsent = 0..length;
            if length < self.buffer.len() {
                // The socket is empty: a new edge comes with the next bytes. So this writes, and
                // leaves out the read that would find nothing.
                while !self.unsent.is_empty() {
                    self.unsent.start += self.stream.write(&self.buffer[self.unsent.clone()])?;
                }
                return Ok(());
            }
        }
    }
}

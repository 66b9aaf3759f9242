//! Servers that answer redis-benchmark without looking up anything: what there is to win at all.
//!
//! A request is counted by its `*`, which stands in no key and no value of redis-benchmark's, and gets
//! the answer that a SET or a GET would get. Each serves for ever: they are programs of their own.

use std::io::{self, Read, Write};

use coring::net::TcpListener;
use coring::{create_task, ok, run};
use mio::{Events, Interest, Poll, Token};

use super::buffer_bytes;

/// More than a receive buffer holds requests.
const ANSWERS: usize = 1024;

static VALUES: [u8; ANSWERS * VALUE.len()] = repeated(VALUE);
static OKS: [u8; ANSWERS * OK.len()] = repeated(OK);
const VALUE: &[u8] = b"$3\r\nxxx\r\n";
const OK: &[u8] = b"+OK\r\n";

const fn repeated<const BYTES: usize>(answer: &[u8]) -> [u8; BYTES] {
    let mut all = [0; BYTES];
    let mut at = 0;
    while at < BYTES {
        all[at] = answer[at % answer.len()];
        at += 1;
    }
    all
}

/// What a connection asks for, again and again.
#[derive(Debug, Default)]
pub struct Asks {
    sets: bool,
}

impl Asks {
    /// The answers to what has come. They are static, so that nothing has to be kept for a send.
    #[inline]
    pub fn answers(&mut self, received: &[u8]) -> &'static [u8] {
        // Else it begins in the middle of a request, and is as those before.
        if let Some([b'*', .., command]) = received.first_chunk::<9>() {
            self.sets = *command == b'S';
        }
        let count = received.iter().filter(|&&byte| byte == b'*').count();
        if self.sets {
            &OKS[..count * OK.len()]
        } else {
            &VALUES[..count * VALUE.len()]
        }
    }
}

/// coring's streams, as `examples/kv` uses them.
///
/// # Errors
///
/// If accepting fails.
pub fn coring(listener: std::net::TcpListener) -> io::Result<()> {
    run(async {
        let mut listener = TcpListener::from(listener);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A connection that fails ends itself only.
            create_task(async move {
                let (mut reader, mut writer) = stream.into_streams();
                let mut asks = Asks::default();
                loop {
                    let received = reader.fill().await?;
                    if received.is_empty() {
                        return ok(());
                    }
                    let length = received.len();
                    writer.write(asks.answers(received));
                    reader.consume(length);
                    writer.drain().await?;
                }
            });
        }
    })
}

/// epoll, edge-triggered, by mio: a read and a write for what has come, and no read that is sure to
/// find nothing.
///
/// # Errors
///
/// If the poll or the listener fails.
pub fn epoll(listener: std::net::TcpListener) -> io::Result<()> {
    const LISTENER: Token = Token(usize::MAX);
    listener.set_nonblocking(true)?;
    let mut listener = mio::net::TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let registry = poll.registry().try_clone()?;
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections = Vec::new();
    let mut buffer = vec![0; buffer_bytes()];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = Token(connections.len());
                    registry.register(&mut stream, token, Interest::READABLE)?;
                    connections.push(Some((stream, Asks::default())));
                }
                continue;
            }
            let connection = &mut connections[event.token().0];
            if let Some((stream, asks)) = connection
                && answer(stream, asks, &mut buffer).is_err()
            {
                *connection = None;
            }
        }
    }
}

/// An error is the end of the connection. There is always room to write: the client waits for its
/// answers.
fn answer(stream: &mut mio::net::TcpStream, asks: &mut Asks, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        match stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                stream.write_all(asks.answers(&buffer[..length]))?;
                if length < buffer.len() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Asks;

    const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n";
    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$3\r\nxyz\r\n";

    #[test]
    fn each_request_gets_an_answer_wherever_the_pieces_end() {
        for (request, answer) in [(GET, &b"$3\r\nxxx\r\n"[..]), (SET, b"+OK\r\n")] {
            let all = request.repeat(3);
            for middle in 9..all.len() {
                let mut asks = Asks::default();
                let mut answers = asks.answers(&all[..middle]).to_vec();
                answers.extend_from_slice(asks.answers(&all[middle..]));
                assert_eq!(answers, answer.repeat(3), "cut at {middle}");
            }
        }
    }
}

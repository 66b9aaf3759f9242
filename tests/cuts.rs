//! Connections through a proxy that delays, passes on in random pieces, and cuts: streams and servers
//! give the bytes up to the cut, and then the documented error.
//!
//! `CORING_CUT_SEED=n` runs one case of each test.

#![cfg(not(miri))]

mod common;
mod proxy;

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream as StdStream};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread::{self, JoinHandle};

use common::*;
use coring::{
    Server, StreamReader, StreamWriter, create_task, gather, open_connection, sleep, start_server,
};
use proxy::{Cut, How, Proxy, Way};

/// What goes each way where nothing is cut, and where something may be.
const WHOLE: usize = 12 << 20;
const PART: usize = 1 << 20;
const CASES: u64 = 60;

/// What one end of a conversation has seen: both send, end, and read to the end.
struct Seen {
    /// Bytes that came. They were compared.
    received: usize,
    /// How reading and writing have ended.
    read: io::Result<()>,
    wrote: io::Result<()>,
}

/// Our end. What comes is compared with the pattern.
async fn converse(
    mut reader: StreamReader,
    mut writer: StreamWriter,
    bytes: usize,
    seed: u64,
) -> Seen {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pieces = random.fork();
    let writes = create_task(async move {
        let mut sent = 0;
        while sent < bytes {
            let most = [10, 5_000, 200_000][pieces.usize(..3)];
            let piece = pattern(sent, pieces.usize(1..=most).min(bytes - sent));
            sent += piece.len();
            if pieces.bool() {
                writer.write(piece);
            } else {
                writer.write(&piece);
            }
            writer.drain().await?;
            if pieces.u8(..64) == 0 {
                sleep(MS).await?;
            }
        }
        writer.write_eof();
        writer.flush().await
    });
    let mut received = 0;
    let read = loop {
        let most = [10, 5_000, 200_000][random.usize(..3)];
        // Once more than there is unread, or some of it.
        let filled = if random.u8(..3) == 0 {
            reader.fill().await.map(drop)
        } else {
            Ok(())
        };
        let came = match filled {
            Ok(()) => reader.read(most).await,
            Err(error) if reader.buffer().is_empty() => Err(error),
            Err(_) => reader.read(most).await, // It is told again.
        };
        let came = match came {
            Ok(came) => came,
            Err(error) => break Err(error),
        };
        assert!(came[..] == pattern(received, came.len()), "at {received}");
        received += came.len();
        if came.is_empty() {
            break Ok(());
        }
    };
    let wrote = writes.await;
    Seen {
        received,
        read,
        wrote,
    }
}

/// The peer's end, in two threads that block.
fn peer(stream: StdStream, bytes: usize, seed: u64) -> JoinHandle<Seen> {
    let mut random = fastrand::Rng::with_seed(seed + 1_000);
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut writes = stream.try_clone().expect("a descriptor");
    let writer = thread::spawn(move || {
        let mut sent = 0;
        while sent < bytes {
            let most = [10, 5_000, 200_000][random.usize(..3)];
            let piece = pattern(sent, random.usize(1..=most).min(bytes - sent));
            writes.write_all(&piece)?;
            sent += piece.len();
        }
        match writes.shutdown(Shutdown::Write) {
            // Reset, which who reads is told.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            ended => ended,
        }
    });
    thread::spawn(move || {
        let (mut buf, mut received, mut stream) = (vec![0; 100_000], 0, stream);
        let read = loop {
            match stream.read(&mut buf) {
                Ok(0) => break Ok(()),
                Ok(n) => {
                    assert!(buf[..n] == pattern(received, n), "at {received}");
                    received += n;
                }
                Err(error) => break Err(error),
            }
        };
        let wrote = writer.join().expect("it writes");
        Seen {
            received,
            read,
            wrote,
        }
    })
}

async fn finished(thread: JoinHandle<Seen>) -> Seen {
    until(|| thread.is_finished()).await;
    thread.join().expect("each byte is in its place")
}

/// A conversation, and what becomes of it.
#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    /// How much goes each way.
    there: usize,
    back: usize,
    cut: Cut,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        // One way only is half-closed from the start.
        let (there, back) = [(PART, PART), (PART, 0), (0, PART)][random.usize(..3)];
        let way = match (there, back) {
            (_, 0) => Way::There,
            (0, _) => Way::Back,
            _ if random.bool() => Way::There,
            _ => Way::Back,
        };
        let at = match random.u8(..6) {
            0 => 0,
            1 => random.usize(..100),
            _ => random.usize(..PART),
        };
        let how = if random.bool() { How::End } else { How::Reset };
        let cut = Cut { way, at, how };
        Self {
            seed,
            there,
            back,
            cut,
        }
    }

    fn each() -> impl Iterator<Item = Self> {
        let only = std::env::var("CORING_CUT_SEED").ok();
        let only = only.map(|seed| seed.parse::<u64>().expect("a number"));
        let seeds = only.map_or(0..CASES, |seed| seed..seed + 1);
        seeds.map(Self::new)
    }

    /// What an end has seen, to which `total` bytes go this way.
    fn check(&self, seen: &Seen, total: usize, way: Way) {
        let Cut { way: cut, at, how } = self.cut;
        let Seen {
            received,
            read,
            wrote,
        } = seen;
        if cut == way {
            assert_eq!(*received, at, "all that was let through, and no more");
        } else {
            assert!(*received <= total);
        }
        match how {
            How::End => assert!(read.is_ok(), "an end, not {read:?}"),
            How::Reset => {
                // Whoever asks first is told by the kernel: one who writes may have been.
                let told = [read, wrote]
                    .into_iter()
                    .filter_map(|end| end.as_ref().err());
                let kinds: Vec<_> = told.map(io::Error::kind).collect();
                let has_been_told = !kinds.is_empty() || (cut != way && *received == total);
                assert!(has_been_told, "{received} bytes, and no error");
                for kind in kinds {
                    assert!(
                        matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                        "{kind}"
                    );
                }
            }
        }
    }
}

/// Says on stderr which case it was, if it fails.
struct Running(Case);

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self(case) = self;
            eprintln!("{case:?}\nCORING_CUT_SEED={} again runs it", case.seed);
        }
    }
}

#[test]
fn client_through_a_slow_proxy_gets_each_byte() {
    let world = World::uring();
    world.run(async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let target = listener.local_addr().expect("it is bound");
        let proxy = Proxy::start(target, 1, None, 1);
        let (reader, writer) = open_connection(proxy.addr).await.expect("it listens");
        let (theirs, _) = listener.accept().expect("it has come");
        let theirs = peer(theirs, WHOLE, 1);
        let seen = converse(reader, writer, WHOLE, 1).await;
        seen.read.expect("the end");
        seen.wrote.expect("it is connected");
        assert_eq!(seen.received, WHOLE);
        let theirs = finished(theirs).await;
        theirs.read.expect("the end");
        assert_eq!(theirs.received, WHOLE);
        until(|| proxy.is_finished()).await;
        proxy.join();
    });
}

/// asyncio's client, which compares hashes; and whose second connection is reset.
#[test]
fn server_behind_a_slow_proxy_echoes_each_byte_of_asyncio() {
    let world = World::uring();
    world.run(async {
        let server = start_server("127.0.0.1:0", async |mut reader, mut writer| {
            loop {
                let bytes = reader.read(1 << 20).await?;
                if bytes.is_empty() {
                    return coring::ok(());
                }
                writer.write(bytes);
                writer.drain().await?;
            }
        });
        let server = server.await.expect("a free port");
        let proxy = Proxy::start(server.local_addr().expect("it listens"), 2, None, 2);
        let client = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/bulk.py"))
            .args(["client", &proxy.addr.to_string(), &WHOLE.to_string()])
            .stdout(Stdio::piped())
            .spawn();
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                let test = "server_behind_a_slow_proxy_echoes_each_byte_of_asyncio";
                skip(test, &format!("python3 does not start: {error}"));
                // Nobody else is to come.
                drop([
                    StdStream::connect(proxy.addr),
                    StdStream::connect(proxy.addr),
                ]);
                until(|| proxy.is_finished()).await;
                return proxy.join();
            }
        };
        let client = thread::spawn(move || client.wait_with_output());
        until(|| client.is_finished()).await;
        let output = client.join().expect("it waits").expect("it ends");
        assert!(output.status.success(), "{}", output.status);
        let text = String::from_utf8(output.stdout).expect("hashes");
        let (sent, received) = text.trim().split_once(' ').expect("two hashes");
        assert_eq!(sent, received);
        until(|| proxy.is_finished()).await;
        proxy.join();
        server.shutdown(PATIENCE).await.expect("nobody cancels");
    });
}

#[test]
fn client_that_is_cut_off_has_what_came_and_the_error() {
    let world = World::uring();
    for case in Case::each() {
        let _running = Running(case);
        world.run(async {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let target = listener.local_addr().expect("it is bound");
            let proxy = Proxy::start(target, case.seed, Some(case.cut), 1);
            proxy.go_on();
            let (reader, writer) = open_connection(proxy.addr).await.expect("it listens");
            let (theirs, _) = listener.accept().expect("it has come");
            let theirs = peer(theirs, case.back, case.seed);
            let seen = converse(reader, writer, case.there, case.seed).await;
            case.check(&seen, case.back, Way::Back);
            case.check(&finished(theirs).await, case.there, Way::There);
            until(|| proxy.is_finished()).await;
            proxy.join();
        });
    }
}

#[test]
fn server_whose_clients_are_cut_off_has_what_came_and_goes_on() {
    let world = World::uring();
    world.run(async {
        let seen = Rc::new(RefCell::new(None));
        let sees = seen.clone();
        // What the handler is to send.
        let running = Rc::new(RefCell::new(None::<Case>));
        let runs = running.clone();
        let handler = async move |reader: StreamReader, writer: StreamWriter| {
            let case = runs.borrow().expect("one runs");
            let conversation = converse(reader, writer, case.back, case.seed).await;
            sees.replace(Some(conversation));
        };
        let builder = Server::builder().on_report(|report| panic!("{report}"));
        let server = builder.start("127.0.0.1:0", handler).await;
        let server = server.expect("a free port");
        let addr = server.local_addr().expect("it listens");
        for case in Case::each() {
            let _running = Running(case);
            running.replace(Some(case));
            let proxy = Proxy::start(addr, case.seed, Some(case.cut), 1);
            let client = StdStream::connect(proxy.addr).expect("it listens");
            let client = peer(client, case.there, case.seed);
            // One that is reset before it was accepted is nothing to a server.
            until(|| server.connections() == 1).await;
            proxy.go_on();
            until(|| seen.borrow().is_some()).await;
            let seen = seen.take().expect("it was there");
            case.check(&seen, case.there, Way::There);
            case.check(&finished(client).await, case.back, Way::Back);
            until(|| proxy.is_finished() && server.connections() == 0).await;
            proxy.join();
        }
        server.shutdown(PATIENCE).await.expect("nobody cancels");
    });
}

/// Many at once, of all kinds, on one server, while one that nothing befalls is served.
#[test]
fn cuts_of_some_do_not_touch_others() {
    let world = World::uring();
    world.run(async {
        let echo = async |mut reader: StreamReader, mut writer: StreamWriter| {
            loop {
                let bytes = reader.read(1 << 16).await?;
                if bytes.is_empty() {
                    return coring::ok(());
                }
                writer.write(bytes);
                writer.drain().await?;
            }
        };
        let builder = Server::builder().on_report(|_| {}); // Resets.
        let server = builder.start("127.0.0.1:0", echo).await;
        let server = server.expect("a free port");
        let addr = server.local_addr().expect("it listens");
        let whole = async {
            let (reader, writer) = open_connection(addr).await?;
            Ok::<_, io::Error>(converse(reader, writer, 4 * PART, 7).await)
        };
        let cut = async {
            let mut proxies = Vec::new();
            for case in Case::each().take(12) {
                let proxy = Proxy::start(addr, case.seed, Some(case.cut), 1);
                proxy.go_on();
                let (reader, writer) = open_connection(proxy.addr).await?;
                let seen = converse(reader, writer, PART, case.seed);
                proxies.push((create_task(seen), proxy));
            }
            for (seen, proxy) in proxies {
                assert!(seen.await.received <= PART);
                until(|| proxy.is_finished()).await;
                proxy.join();
            }
            Ok(())
        };
        let (whole, ()) = gather!(whole, cut).await.expect("it listens");
        whole.read.expect("the end");
        whole.wrote.expect("it is connected");
        assert_eq!(whole.received, 4 * PART);
        until(|| server.connections() == 0).await;
        server.shutdown(PATIENCE).await.expect("nobody cancels");
    });
}

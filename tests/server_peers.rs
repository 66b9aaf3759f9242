//! Whom a server serves: by which address, who of them failed, and what becomes of those that wait.

#![cfg(not(miri))]

mod common;

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::thread;

use common::*;
use coring::streams::{ServerBuilder, ServerReport};
use coring::{
    Server, StreamReader, StreamWriter, open_connection, open_unix_connection, start_server,
    start_unix_server, wait_for,
};

/// A client that is not of this runtime.
fn client(server: &Server) -> TcpStream {
    let addr = server.local_addr().expect("it listens");
    let client = TcpStream::connect(addr).expect("it listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    client
}

/// What a client hears to the end.
async fn rest_of(mut client: TcpStream) -> io::Result<Vec<u8>> {
    let thread = thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).map(|_| all)
    });
    until(|| thread.is_finished()).await;
    thread.join().expect("it reads")
}

/// Of whom, and what.
type Report = (Option<SocketAddr>, String);

#[derive(Clone, Default)]
struct Reports(Rc<RefCell<Vec<Report>>>);

impl Reports {
    fn builder(&self) -> ServerBuilder {
        let reports = self.0.clone();
        Server::builder().on_report(move |report| {
            let peer = match &report {
                ServerReport::Handler { peer, .. } | ServerReport::Panicked { peer, .. } => *peer,
                _ => None,
            };
            reports.borrow_mut().push((peer, report.to_string()));
        })
    }

    fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

#[test]
fn writer_says_the_addresses_of_both_ends() {
    let world = World::uring();
    world.run(async {
        let server = start_server("127.0.0.1:0", async |_reader, mut writer: StreamWriter| {
            let (here, there) = (writer.local_addr()?, writer.peer_addr()?);
            writer.write(format!("{here} {there}"));
            coring::ok(())
        });
        let server = server.await.expect("a free port");
        let addr = server.local_addr().expect("it listens");
        let (mut reader, writer) = open_connection(addr).await.expect("it listens");
        assert_eq!(writer.peer_addr().expect("it is connected"), addr);
        let own = writer.local_addr().expect("it is connected");
        let told = reader.read_to_end().await.expect("an answer");
        assert_eq!(told, format!("{addr} {own}").as_bytes());
    });
}

#[test]
fn writer_of_a_unix_socket_has_no_addresses_of_the_internet() {
    let world = World::uring();
    world.run(async {
        let path = Temp::new();
        let server = start_unix_server(&*path, async |_reader, _writer| {});
        let _server = server.await.expect("a free name");
        let (_reader, writer) = open_unix_connection(&*path).await.expect("it listens");
        for addr in [writer.local_addr(), writer.peer_addr()] {
            assert_eq!(error_of(addr).kind(), ErrorKind::AddrNotAvailable);
        }
    });
}

/// The kernel forgets the peer with a reset; the report names it all the same.
#[test]
fn report_names_the_peer_that_has_reset_its_connection() {
    let world = World::uring();
    world.run(async {
        let reports = Reports::default();
        let found = Rc::new(RefCell::new(None));
        let noted = found.clone();
        let server = reports.builder().start(
            "127.0.0.1:0",
            async move |mut reader: StreamReader, writer: StreamWriter| {
                let read = reader.read(9).await;
                let peer = writer.peer_addr().map_err(|error| error.kind());
                noted.replace(Some((peer, writer.local_addr().is_ok())));
                read.map(drop)
            },
        );
        let server = server.await.expect("a free port");
        let one = client(&server);
        let addr = one.local_addr().expect("it is connected");
        until(|| server.connections() == 1).await;
        reset(&one);
        drop(one);
        until(|| reports.len() == 1).await;
        let (peer, text) = reports.0.borrow()[0].clone();
        assert_eq!(peer, Some(addr));
        let begin = format!("the connection of {addr} ended with an error: Connection reset");
        assert!(text.starts_with(&begin), "{text}");
        assert_eq!(found.take(), Some((Err(ErrorKind::NotConnected), true)));
        server.shutdown(PATIENCE).await.expect("nobody cancels");
    });
}

#[test]
fn report_of_a_unix_server_names_nobody() {
    let world = World::uring();
    world.run(async {
        let path = Temp::new();
        let reports = Reports::default();
        let server = reports
            .builder()
            .start_unix(&*path, async |_reader, _writer| {
                Err::<(), _>(io::Error::other("it went wrong"))
            });
        let server = server.await.expect("a free name");
        let (mut reader, _writer) = open_unix_connection(&*path).await.expect("it listens");
        assert_eq!(reader.read_to_end().await.expect("the end"), b"");
        let report = (
            None,
            "a connection ended with an error: it went wrong".into(),
        );
        assert_eq!(*reports.0.borrow(), [report]);
        server.shutdown(PATIENCE).await.expect("nobody cancels");
    });
}

/// Not only the handler's future: the call of it, and who is reported to.
#[test]
fn what_was_written_before_any_panic_is_sent() {
    let world = World::uring();
    world.run(async {
        let reports = Reports::default();
        let early = |_: StreamReader, mut writer: StreamWriter| {
            writer.write("hello");
            if !writer.is_closing() {
                panic!("early");
            }
            async {}
        };
        let server = reports.builder().start("127.0.0.1:0", early);
        let server = server.await.expect("a free port");
        assert_eq!(rest_of(client(&server)).await.expect("no reset"), b"hello");
        until(|| server.connections() == 0).await;
        assert!(reports.0.borrow()[0].1.ends_with(": early"));
        server.shutdown(PATIENCE).await.expect("nobody cancels");

        let builder = Server::builder().on_report(|_| panic!("nobody listens"));
        let late = async |_: StreamReader, mut writer: StreamWriter| {
            writer.write("hello");
            assert!(writer.is_closing(), "late");
        };
        let server = builder
            .start("127.0.0.1:0", late)
            .await
            .expect("a free port");
        assert_eq!(rest_of(client(&server)).await.expect("no reset"), b"hello");
        until(|| server.connections() == 0).await;
        server.shutdown(PATIENCE).await.expect("nobody cancels");
    });
}

/// A panic is told as an error is: what was written is sent, the others go on, and the server ends.
#[test]
fn panic_of_a_handler_is_reported_and_harms_no_other() {
    let world = World::uring();
    world.run(async {
        let reports = Reports::default();
        let server = reports.builder().start(
            "127.0.0.1:0",
            async |mut reader: StreamReader, mut writer: StreamWriter| {
                let name = reader.readline().await.expect("a line");
                writer.write(vec![7; 1 << 20]);
                let name = name.trim_ascii().escape_ascii().to_string();
                match &*name {
                    "text" => panic!("a text"),
                    "number" => std::panic::panic_any(5),
                    "mine" => panic!("a panic of {name}"),
                    _ => {}
                }
            },
        );
        let server = server.await.expect("a free port");
        let mut waits = client(&server);
        for (n, (name, told)) in [
            ("text", ": a text"),
            ("mine", ": a panic of mine"),
            ("number", ""),
        ]
        .into_iter()
        .enumerate()
        {
            let mut one = client(&server);
            let addr = one.local_addr().expect("it is connected");
            writeln!(one, "{name}").expect("it is connected");
            let written = rest_of(one).await.expect("no reset");
            assert_eq!(written, [7; 1 << 20], "what was written is sent");
            until(|| server.connections() == 1).await;
            let text = format!("the connection of {addr} ended with a panic{told}");
            assert_eq!(reports.0.borrow()[n..], [(Some(addr), text)]);
        }
        assert!(server.is_serving());
        writeln!(waits, "too").expect("it is connected");
        assert_eq!(rest_of(waits).await.expect("no reset").len(), 1 << 20);
        server.shutdown(PATIENCE).await.expect("nobody cancels");
        assert_eq!(reports.len(), 3);
    });
}

/// Past the limit: those that were accepted, and those that wait with the kernel.
#[test]
fn peers_that_wait_to_be_served_are_closed_with_the_server() {
    const WAITING: usize = 100; // More than a listener takes from the kernel.
    let world = World::uring();
    world.run(async {
        for shuts_down in [true, false] {
            let begun = Rc::new(Cell::new(0));
            let count = begun.clone();
            let server = Server::builder().connections_max(1).start(
                "127.0.0.1:0",
                async move |mut reader: StreamReader, mut writer: StreamWriter| {
                    count.set(count.get() + 1);
                    writer.write(reader.readline().await?);
                    coring::ok(())
                },
            );
            let mut server = server.await.expect("a free port");
            let mut served = client(&server);
            until(|| begun.get() == 1).await;
            let waiting: Vec<_> = (0..WAITING).map(|_| client(&server)).collect();
            for mut one in &waiting {
                one.write_all(b"hello\n").expect("it is connected");
            }
            turn().await;
            assert_eq!((server.connections(), begun.get()), (1, 1));
            let ends = async {
                for one in waiting {
                    // It has sent what nobody has read.
                    let error = error_of(rest_of(one).await);
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                }
                // Who is served goes on.
                served.write_all(b"bye\n").expect("it is connected");
                assert_eq!(rest_of(served).await.expect("no reset"), b"bye\n");
            };
            let closes = async {
                if shuts_down {
                    let asked = server.shutdown(PATIENCE).await;
                    assert_eq!(asked.expect("nobody cancels"), 0);
                } else {
                    server.close();
                    let closed = wait_for(server.wait_closed(), PATIENCE).await;
                    closed.expect("it is closed");
                }
            };
            futures_util::join!(closes, ends);
            assert_eq!(begun.get(), 1, "nobody else was served");
        }
    });
}

//! Servers: who is served, who waits, how they end, and what stays behind.

#![cfg(not(miri))]

mod common;

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use common::*;
use coring::net::TcpListener;
use coring::streams::ServerReport;
use coring::{
    Server, Stats, StreamReader, StreamWriter, all_tasks, create_task, is_cancelled, now,
    open_connection, open_unix_connection, shielded, sleep, start_server, start_unix_server,
    wait_for, yield_now,
};

/// Some turns: what was cancelled in the kernel has come to its end.
async fn turns() {
    for _ in 0..5 {
        turn().await;
    }
}

/// A client that is not of this runtime.
fn client(addr: SocketAddr) -> std::net::TcpStream {
    let client = std::net::TcpStream::connect(addr).expect("it listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    client
}

/// What a peer hears to the end; nothing if it is reset.
async fn rest_of(mut client: impl io::Read + Send + 'static) -> Vec<u8> {
    let thread = thread::spawn(move || {
        let mut all = Vec::new();
        let _ = client.read_to_end(&mut all);
        all
    });
    until(|| thread.is_finished()).await;
    thread.join().expect("it reads")
}

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    while !reader.at_eof() {
        writer.write(reader.read(4_096).await?);
        writer.drain().await?;
    }
    Ok(())
}

async fn open(addr: SocketAddr) -> io::Result<(StreamReader, StreamWriter)> {
    open_connection(addr.to_string()).await
}

async fn is_echoed(addr: SocketAddr) {
    let (mut reader, mut writer) = open(addr).await.expect("it listens");
    writer.write("hello\n");
    let line = wait_for(reader.readline(), PATIENCE)
        .await
        .expect("an echo");
    assert_eq!(&line[..], b"hello\n");
}

#[derive(Clone, Default)]
struct Reports(Rc<RefCell<Vec<String>>>);

impl Reports {
    fn builder(&self) -> coring::streams::ServerBuilder {
        let reports = self.0.clone();
        Server::builder().on_report(move |report| reports.borrow_mut().push(report.to_string()))
    }

    fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// 173: `test_unhandled_exception`, `test_unhandled_cancel`: an error is reported and the connection
/// closed, a cancellation closes it silently. A panic is reported as well.
#[test]
fn b173_error_of_a_handler_is_reported_and_its_connection_closed() {
    let world = World::uring();
    world.run(async {
        let reports = Reports::default();
        let server = reports.builder().start(
            "127.0.0.1:0",
            async |mut reader: StreamReader, writer: StreamWriter| {
                let line = reader.readline().await?;
                match &line[..] {
                    b"error\n" => Err(io::Error::other("it went wrong")),
                    b"cancel\n" => Err(coring::Cancelled::default().into()),
                    b"panic\n" => panic!("a panic of a handler"),
                    _ => echo(reader, writer).await,
                }
            },
        );
        let server = server.await.expect("a free port");
        let addr = server.local_addr().expect("it listens");
        let mut other = client(addr);
        other.write_all(b"others go on\n").expect("it is connected");
        for (what, told) in [("error", 1), ("cancel", 0), ("panic", 1)] {
            let mut one = client(addr);
            let peer = one.local_addr().expect("it is connected");
            one.write_all(format!("{what}\n").as_bytes())
                .expect("it is connected");
            assert_eq!(rest_of(one).await, b"", "{what}");
            let reports = reports.take();
            assert_eq!(reports.len(), told, "{what}: {reports:?}");
            let text = match what {
                "error" => "an error: it went wrong",
                _ => "a panic: a panic of a handler",
            };
            for report in reports {
                assert_eq!(
                    report,
                    format!("the connection of {peer} ended with {text}")
                );
            }
        }
        until(|| server.connections() == 1).await;
        other.write_all(b"x").expect("it is connected");
        let mut echoed = [0];
        let echoed = create_task(async move {
            let thread = thread::spawn(move || {
                other.read_exact(&mut echoed).expect("an echo");
                echoed
            });
            until(|| thread.is_finished()).await;
            thread.join().expect("it reads")
        });
        assert_eq!(echoed.await, *b"x");
        until(|| server.connections() == 0).await;
        server.shutdown(PATIENCE).await.expect("nobody cancels");
    });
}

/// 174: `test_start_server`, `test_start_unix_server`, `test_unclosed_resource_warnings`: a server
/// that is dropped listens no more.
#[test]
fn b174_servers_serve_until_they_are_dropped() {
    let world = World::uring();
    world.run(async {
        let server = start_server("localhost:0", echo)
            .await
            .expect("a free port");
        assert!(server.is_serving());
        let addrs = server.local_addrs().to_vec();
        assert!(!addrs.is_empty());
        for &addr in &addrs {
            is_echoed(addr).await;
        }
        drop(server);
        turns().await;
        for addr in addrs {
            let error = error_of(open(addr).await);
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        let path = Temp::new();
        let server = start_unix_server(&*path, echo).await.expect("a free name");
        assert!(server.local_addr().is_err());
        let (mut reader, mut writer) = open_unix_connection(&*path).await.expect("it listens");
        writer.write("hello\n");
        assert_eq!(&reader.readline().await.expect("an echo")[..], b"hello\n");
        drop(server);
        assert!(!path.exists());
        // The connection lives on.
        writer.write("bye\n");
        assert_eq!(&reader.readline().await.expect("an echo")[..], b"bye\n");
    });
}

/// 175: `test_wait_closed_basic`, `test_wait_closed_race`.
#[test]
fn b175_wait_closed_waits_for_close_and_for_the_connections() {
    let world = World::uring();
    world.run(async {
        let mut server = start_server("127.0.0.1:0", echo)
            .await
            .expect("a free port");
        let addr = server.local_addr().expect("it listens");
        let still_open = wait_for(server.wait_closed(), 5 * MS).await;
        assert!(is_time_out(&error_of(still_open)));
        let one = client(addr);
        until(|| server.connections() == 1).await;
        server.close();
        assert!(!server.is_serving());
        server.close();
        let one_left = wait_for(server.wait_closed(), 5 * MS).await;
        assert!(is_time_out(&error_of(one_left)));
        // The connection ends while somebody waits.
        let ends = async {
            turn().await;
            drop(one);
        };
        let (closed, ()) = futures_util::join!(server.wait_closed(), ends);
        closed.expect("nobody cancels");
        assert_eq!(server.connections(), 0);
        server.wait_closed().await.expect("it is closed");
    });
}

/// When it is closed its address is free: for the next server, at once.
#[test]
fn address_is_free_when_a_server_is_closed() {
    let world = World::uring();
    world.run(async {
        let mut server = start_server("127.0.0.1:0", echo)
            .await
            .expect("a free port");
        let addr = server.local_addr().expect("it listens");
        for round in 0..30 {
            if round % 2 == 0 {
                is_echoed(addr).await;
            }
            if round % 3 == 0 {
                server.close();
                server.wait_closed().await.expect("nobody cancels");
            } else {
                server.shutdown(PATIENCE).await.expect("nobody cancels");
            }
            server = start_server(addr.to_string(), echo)
                .await
                .expect("the address is free");
        }
    });
}

#[test]
fn server_of_no_listeners_is_closed() {
    let world = World::uring();
    world.run(async {
        let none: [TcpListener; 0] = [];
        let mut server = Server::builder().serve(none, echo);
        assert!(!server.is_serving());
        server.wait_closed().await.expect("nobody cancels");
        server.serve_forever().await.expect("nobody cancels");
        server.shutdown(PATIENCE).await.expect("nobody cancels");
    });
}

/// 176: `test_close_clients`. (`abort_clients` is a shutdown without grace.)
#[test]
fn b176_close_clients_asks_each_handler_to_stop() {
    let world = World::uring();
    world.run(async {
        let reports = Reports::default();
        let builder = reports.builder();
        let mut server = builder
            .start("127.0.0.1:0", echo)
            .await
            .expect("a free port");
        let addr = server.local_addr().expect("it listens");
        let clients: Vec<_> = (0..5).map(|_| client(addr)).collect();
        until(|| server.connections() == 5).await;
        server.close();
        server.close_clients();
        server.wait_closed().await.expect("nobody cancels");
        for client in clients {
            assert_eq!(rest_of(client).await, b"");
        }
        assert_eq!(reports.take(), [""; 0]);
    });
}

/// 176: `test_abort_clients`.
#[test]
fn b176_shutdown_without_grace_drops_whoever_is_left() {
    let world = World::uring();
    world.run(async {
        let drops = Drops::default();
        let guards = drops.clone();
        let deaf = async move |_reader: StreamReader, _writer: StreamWriter| {
            let _guard = guards.guard();
            std::future::pending::<()>().await;
        };
        let server = start_server("127.0.0.1:0", deaf)
            .await
            .expect("a free port");
        let addr = server.local_addr().expect("it listens");
        let clients: Vec<_> = (0..3).map(|_| client(addr)).collect();
        until(|| server.connections() == 3).await;
        let asked = server
            .shutdown(Duration::ZERO)
            .await
            .expect("nobody cancels");
        assert_eq!((asked, drops.count()), (3, 3));
        for client in clients {
            assert_eq!(rest_of(client).await, b"");
        }
    });
}

/// How a handler takes it when a server ends.
#[derive(Clone, Copy)]
enum Manner {
    EndsByItself,
    EndsWhenAsked,
    IgnoresTheFirst,
    IgnoresBoth,
}

async fn served(manner: Manner, reader: &mut StreamReader, asked: &Cell<u32>) -> io::Result<()> {
    match manner {
        Manner::EndsByItself => sleep(20 * MS).await,
        Manner::EndsWhenAsked => reader.readline().await.map(drop),
        Manner::IgnoresTheFirst | Manner::IgnoresBoth => loop {
            let error = error_of(reader.readexactly(9).await);
            assert!(is_cancelled(&error));
            asked.set(asked.get() + 1);
            if matches!(manner, Manner::IgnoresTheFirst) && asked.get() == 2 {
                return Err(error);
            }
        },
    }
}

#[test]
fn shutdown_goes_as_far_as_it_must() {
    let world = World::uring();
    let grace = Duration::from_millis(60);
    let manners = [
        (Manner::EndsByItself, 0, 0, 1),
        (Manner::EndsWhenAsked, 1, 1, 2),
        (Manner::IgnoresTheFirst, 1, 2, 3),
        (Manner::IgnoresBoth, 1, 3, 4),
    ];
    for (manner, expected, least, most) in manners {
        world.run(async {
            let asked = Rc::new(Cell::new(0));
            let counts = asked.clone();
            let handler = async move |mut reader: StreamReader, mut writer: StreamWriter| {
                let result = served(manner, &mut reader, &counts).await;
                writer.write("good-bye");
                result
            };
            let server = start_server("127.0.0.1:0", handler)
                .await
                .expect("a free port");
            let addr = server.local_addr().expect("it listens");
            let client = client(addr);
            until(|| server.connections() == 1).await;
            let begin = now();
            assert_eq!(
                server.shutdown(grace).await.expect("nobody cancels"),
                expected
            );
            let took = now() - begin;
            assert!(took >= grace * least && took < grace * most, "{took:?}");
            let error = error_of(open(addr).await);
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            let told = rest_of(client).await;
            if matches!(manner, Manner::IgnoresBoth) {
                assert_eq!((told, asked.get()), (Vec::new(), 2));
            } else {
                assert_eq!(told, b"good-bye");
            }
        });
    }
}

/// A request to stop hurries it up; the connections end all the same.
#[test]
fn shutdown_that_is_cancelled_asks_at_once() {
    let world = World::uring();
    world.run(async {
        let server = start_server("127.0.0.1:0", echo)
            .await
            .expect("a free port");
        let addr = server.local_addr().expect("it listens");
        let client = client(addr);
        until(|| server.connections() == 1).await;
        let begin = now();
        let ending = begun(server.shutdown(PATIENCE)).await;
        turn().await;
        ending.cancel();
        assert!(is_cancelled(&error_of(ending.await)));
        assert!(now() - begin < PATIENCE / 2);
        assert_eq!(rest_of(client).await, b"");
    });
}

#[test]
fn serve_forever_that_is_cancelled_closes_and_lets_connections_live() {
    let world = World::uring();
    world.run(async {
        let mut server = start_server("127.0.0.1:0", echo)
            .await
            .expect("a free port");
        let addr = server.local_addr().expect("it listens");
        let (mut reader, mut writer) = open(addr).await.expect("it listens");
        until(|| server.connections() == 1).await;
        let result = wait_for(server.serve_forever(), 5 * MS).await;
        assert!(is_time_out(&error_of(result)));
        assert!(!server.is_serving());
        server.serve_forever().await.expect("it has ended");
        turns().await;
        assert!(open(addr).await.is_err());
        writer.write("still\n");
        assert_eq!(&reader.readline().await.expect("an echo")[..], b"still\n");
        drop((reader, writer));
        server.wait_closed().await.expect("nobody cancels");
    });
}

/// The limit holds, also with several listeners; who waits is served in turn.
#[test]
fn no_more_connections_than_the_limit() {
    const MAX: usize = 3;
    let world = World::uring();
    world.run(async {
        let now_served = Rc::new(Cell::new((0, 0)));
        let counts = now_served.clone();
        let handler = async move |reader: StreamReader, writer: StreamWriter| {
            let (served, most) = counts.get();
            counts.set((served + 1, most.max(served + 1)));
            sleep(3 * MS).await?;
            let result = echo(reader, writer).await;
            let (served, most) = counts.get();
            counts.set((served - 1, most));
            result
        };
        let listeners = [
            TcpListener::bind("127.0.0.1:0").expect("a free port"),
            TcpListener::bind("127.0.0.1:0").expect("a free port"),
        ];
        let builder = Server::builder().connections_max(MAX);
        let server = builder.serve(listeners, handler);
        let addrs = server.local_addrs().to_vec();
        let mut clients = Vec::new();
        for round in 0..40 {
            // Both listeners have one for the last place at once.
            for &addr in &addrs {
                let mut client = client(addr);
                client.write_all(b"x").expect("it is connected");
                let write = std::net::Shutdown::Write;
                client.shutdown(write).expect("a socket");
                clients.push(client);
            }
            if round % 8 == 0 {
                turns().await;
            }
            assert!(server.connections() <= MAX, "{}", server.connections());
        }
        for client in clients {
            assert_eq!(rest_of(client).await, b"x");
        }
        assert_eq!(now_served.get(), (0, MAX));
        assert!(server.is_serving());
    });
}

/// A listener whose clients never cease leaves the other its turns.
#[test]
fn flood_of_one_listener_does_not_starve_the_other() {
    let world = World::uring();
    world.run(async {
        let listeners = [
            TcpListener::bind("127.0.0.1:0").expect("a free port"),
            TcpListener::bind("127.0.0.1:0").expect("a free port"),
        ];
        let server = Server::builder().serve(listeners, echo);
        let addrs = server.local_addrs().to_vec();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let flooded = addrs[0];
        let flood = thread::spawn(move || {
            let mut n = 0;
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                // Reset, so that no port stays behind.
                let client = client(flooded);
                let socket = socket2::SockRef::from(&client);
                socket.set_linger(Some(Duration::ZERO)).expect("a socket");
                n += 1;
            }
            n
        });
        turns().await;
        for _ in 0..50 {
            is_echoed(addrs[1]).await;
            is_echoed(addrs[0]).await;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        until(|| flood.is_finished()).await;
        assert!(flood.join().expect("it floods") > 50);
        server.shutdown(PATIENCE).await.expect("nobody cancels");
    });
}

/// Clients that are gone before they are accepted: the others are served.
#[test]
fn clients_that_reset_before_they_are_served_harm_nobody() {
    let world = World::uring();
    world.run(async {
        let reports = Reports::default();
        let builder = reports.builder();
        let server = builder.start("127.0.0.1:0", async |mut reader: StreamReader, _| {
            // The handler sees it, if the connection was accepted.
            let _ = reader.read(9).await;
        });
        let server = server.await.expect("a free port");
        let addr = server.local_addr().expect("it listens");
        for round in 0..200 {
            let one = client(addr);
            if round % 2 == 0 {
                let socket = socket2::SockRef::from(&one);
                socket.set_linger(Some(Duration::ZERO)).expect("a socket");
            }
            drop(one);
            if round % 10 == 0 {
                turn().await;
            }
        }
        until(|| server.connections() == 0).await;
        let (mut reader, mut writer) = open(addr).await.expect("it listens");
        writer.write("x");
        assert!(reader.read_to_end().await.expect("the end").is_empty());
        assert_eq!(reports.take(), [""; 0]);
        assert!(server.is_serving());
    });
}

/// 177: `test_unix_server_addr_cleanup`, `_cleanup_gone`, `_replaced`, `_prevented`.
#[test]
fn b177_file_is_removed_if_it_is_still_the_servers() {
    let world = World::uring();
    world.run(async {
        let path = Temp::new();
        let mut server = start_unix_server(&*path, echo).await.expect("a free name");
        assert!(path.exists());
        server.close();
        assert!(!path.exists());
        server.close();
        // Gone meanwhile.
        let mut server = start_unix_server(&*path, echo).await.expect("a free name");
        std::fs::remove_file(&*path).expect("it is there");
        server.close();
        // Replaced.
        let mut server = start_unix_server(&*path, echo).await.expect("a free name");
        std::fs::remove_file(&*path).expect("it is there");
        let other = std::os::unix::net::UnixListener::bind(&*path).expect("a free name");
        server.close();
        assert!(path.exists());
        drop(other);
        // Prevented: what was bound by somebody else is theirs.
        std::fs::remove_file(&*path).expect("it is there");
        let theirs = std::os::unix::net::UnixListener::bind(&*path).expect("a free name");
        let listener = coring::net::UnixListener::from(theirs);
        drop(Server::builder().serve([listener], echo));
        assert!(path.exists());
    });
}

/// A socket that nobody listens on is taken over; one of a server that lives, and what is no socket,
/// stay.
#[test]
fn file_that_is_there_already() {
    let world = World::uring();
    world.run(async {
        let path = Temp::new();
        drop(std::os::unix::net::UnixListener::bind(&*path).expect("a free name"));
        let server = start_unix_server(&*path, echo)
            .await
            .expect("nobody has it");
        for _ in 0..2 {
            let error = error_of(start_unix_server(&*path, echo).await);
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            let (mut reader, mut writer) = open_unix_connection(&*path).await.expect("it lives");
            writer.write("hello\n");
            assert_eq!(&reader.readline().await.expect("an echo")[..], b"hello\n");
        }
        drop(server);
        assert!(!path.exists());
        // One whose backlog is full lives as well.
        let full = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let full = full.expect("a socket");
        let addr = socket2::SockAddr::unix(&*path).expect("a path");
        full.bind(&addr).expect("a free name");
        full.listen(0).expect("a socket");
        let waits = StdUnixStream::connect(&*path).expect("it fits");
        let error = error_of(start_unix_server(&*path, echo).await);
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop((full, waits));
        std::fs::remove_file(&*path).expect("it is there");
        // So does one for datagrams.
        let datagrams = std::os::unix::net::UnixDatagram::bind(&*path).expect("a free name");
        let error = error_of(start_unix_server(&*path, echo).await);
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop(datagrams);
        let server = start_unix_server(&*path, echo)
            .await
            .expect("nobody has it");
        drop(server);
        let file = Temp::file(b"precious");
        let error = error_of(start_unix_server(&*file, echo).await);
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(file.content(), b"precious");
        let directory = Temp::directory();
        assert!(start_unix_server(&*directory, echo).await.is_err());
        assert!(directory.exists());
    });
}

/// The end of the run, with connections in the middle: by the runner's end, and by its drop.
#[test]
fn run_that_ends_takes_its_servers_along() {
    let world = World::uring();
    for gently in [false, true] {
        let drops = Drops::default();
        let mut runner = world.runner();
        let (clients, path) = runner.run(async {
            let guards = drops.clone();
            let handler = async move |reader: StreamReader, writer: StreamWriter| {
                let _guard = guards.guard();
                echo(reader, writer).await
            };
            let path = Temp::new();
            let server = start_server("127.0.0.1:0", handler)
                .await
                .expect("a free port");
            let unix = start_unix_server(&*path, echo).await.expect("a free name");
            let addr = server.local_addr().expect("it listens");
            let clients: Vec<_> = (0..3).map(|_| client(addr)).collect();
            until(|| server.connections() == 3).await;
            drop(unix);
            // This one is dropped when the tasks are gone.
            create_task(async move {
                let mut server = server;
                let _ = shielded(server.serve_forever()).await;
            });
            turn().await;
            (clients, path)
        });
        if gently {
            let begin = clock();
            runner.close();
            assert!(clock() - begin < PATIENCE, "it was held up");
        } else {
            drop(runner);
        }
        assert_eq!(drops.count(), 3);
        for mut client in clients {
            let mut all = Vec::new();
            let _ = client.read_to_end(&mut all);
            assert_eq!(all, b"");
        }
        assert!(!path.exists());
    }
}

#[expect(clippy::disallowed_methods, reason = "no runtime is turning then")]
fn clock() -> Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// A listener that fails is told of, and does not spin.
#[test]
fn listener_that_fails_is_reported() {
    let world = World::uring();
    world.run(async {
        let reports = Reports::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut server = reports.builder().serve(
            [TcpListener::from(listener.try_clone().expect("a socket"))],
            echo,
        );
        turn().await;
        let socket = socket2::SockRef::from(&listener);
        socket.shutdown(std::net::Shutdown::Both).expect("a socket");
        server.serve_forever().await.expect("nobody cancels");
        let reports = reports.take();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(
            reports[0].starts_with("a listener has failed"),
            "{reports:?}"
        );
        assert!(!server.is_serving());
        server.wait_closed().await.expect("nobody cancels");
    });
}

/// No descriptor is left for another connection: told once, and served when one ends.
#[test]
fn shortage_of_descriptors_pauses_and_passes() {
    if std::env::var_os("CORING_TEST_SHORTAGE").is_none() {
        // The table is the process's: in one of its own.
        let own = std::env::current_exe().expect("it runs");
        let status = std::process::Command::new(own)
            .args(["--exact", "shortage_of_descriptors_pauses_and_passes"])
            .args(["--nocapture"])
            .env("CORING_TEST_SHORTAGE", "1")
            .status();
        assert!(status.expect("it starts").success());
        return;
    }
    let world = World::uring();
    world.run(async {
        let reports = Reports::default();
        let paused = Rc::new(Cell::new(0));
        let counts = paused.clone();
        let begun = Rc::new(Cell::new(0));
        let count = begun.clone();
        let server = Server::builder()
            .on_report(move |report| {
                if let ServerReport::Paused(error) = &report {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                    counts.set(counts.get() + 1);
                } else {
                    reports.0.borrow_mut().push(report.to_string());
                }
            })
            .start(
                "127.0.0.1:0",
                async move |mut reader: StreamReader, writer: StreamWriter| {
                    count.set(count.get() + 1);
                    // Its receive is still armed when it ends.
                    if &reader.readline().await?[..] == b"quit\n" {
                        return Ok(());
                    }
                    echo(reader, writer).await
                },
            );
        let server = server.await.expect("a free port");
        let addr = server.local_addr().expect("it listens");
        let clients: Vec<_> = (0..8).map(|_| client(addr)).collect();
        let mut clients = std::collections::VecDeque::from(clients);
        until(|| server.connections() == 8).await;
        // Sockets for two more clients are made while there is room for them; then it is filled.
        let early: Vec<_> = (0..2)
            .map(|_| {
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
                    .expect("a socket")
            })
            .collect();
        let mut filling = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            filling.push(file);
        }
        let tasks = all_tasks().len();
        for socket in early {
            socket.connect(&addr.into()).expect("it listens");
            let client = std::net::TcpStream::from(socket);
            client.set_read_timeout(Some(PATIENCE)).expect("a socket");
            clients.push_back(client);
        }
        until(|| paused.get() == 1).await;
        for _ in 0..100 {
            turn().await;
        }
        assert_eq!(paused.get(), 1, "once per pause");
        assert_eq!(server.connections(), 8);
        assert_eq!(all_tasks().len(), tasks);
        // One ends: its place is taken at once, by one of the two.
        let begin = now();
        let mut ends = clients.pop_front().expect("there are some");
        ends.write_all(b"quit\n").expect("it is connected");
        until(|| begun.get() == 9).await;
        assert!(
            now() - begin < Duration::from_millis(700),
            "{:?}",
            now() - begin
        );
        // The other still waits; told once more, for that is another pause.
        for _ in 0..20 {
            turn().await;
        }
        assert!(paused.get() <= 2, "{}", paused.get());
        // There is room again: without an end of a connection it takes a second.
        drop(filling);
        until(|| begun.get() == 10).await;
        assert_eq!(server.connections(), 9);
        assert!(server.is_serving());
        let (mut reader, mut writer) = open(addr).await.expect("it listens");
        writer.write("first\nx\n");
        assert_eq!(&reader.readline().await.expect("an echo")[..], b"x\n");
        drop((ends, clients, reader, writer));
        server.shutdown(PATIENCE).await.expect("nobody cancels");
    });
}

/// The kernel has accepted a connection, and the server has not looked: it is served, and ended.
#[test]
fn shutdown_ends_what_was_accepted_and_not_looked_at() {
    let world = World::uring();
    world.run(async {
        for grace in [Duration::ZERO, Duration::from_millis(5)] {
            let alive = Rc::new(Cell::new(0));
            let handlers = alive.clone();
            let server = start_server(
                "127.0.0.1:0",
                async move |mut reader: StreamReader, _writer: StreamWriter| {
                    handlers.set(handlers.get() + 1);
                    let _ended = OnDrop(|| handlers.set(handlers.get() - 1));
                    reader.read(1).await.map(drop)
                },
            );
            let server = server.await.expect("a free port");
            let addr = server.local_addr().expect("it listens");
            turn().await;
            let client = client(addr);
            // Ready all the time, this runs before the server's task, which is behind it in the queue
            // when the loop has taken the connection from the kernel, and is told before it looks.
            let completions = Stats::current().completions;
            while Stats::current().completions == completions {
                yield_now().await.expect("nobody cancels");
            }
            server.shutdown(grace).await.expect("nobody cancels");
            assert_eq!(alive.get(), 0, "a handler outlives the server");
            assert_eq!(rest_of(client).await, b"");
        }
    });
}

/// A peer that does not read: its connection counts until what was written is sent, and ends with the
/// server, however much is left.
#[test]
fn answers_that_nobody_reads_count_and_end_with_the_server() {
    const BYTES: usize = 32 << 20;
    let world = World::uring();
    world.run(async {
        let ended = Rc::new(Cell::new(0));
        let handlers = ended.clone();
        let server = Server::builder().connections_max(1).start(
            "127.0.0.1:0",
            async move |_reader, mut writer: StreamWriter| {
                writer.write(vec![7; BYTES]);
                handlers.set(handlers.get() + 1);
            },
        );
        let server = server.await.expect("a free port");
        let addr = server.local_addr().expect("it listens");
        let (first, second) = (client(addr), client(addr));
        until(|| ended.get() == 1).await;
        turns().await;
        assert_eq!(server.connections(), 1, "it has bytes to be sent");
        // One that reads has all of it, and makes room.
        assert_eq!(rest_of(first).await, [7; BYTES]);
        until(|| ended.get() == 2).await;
        turns().await;
        assert_eq!(server.connections(), 1);
        let asked = server.shutdown(Duration::from_millis(5)).await;
        assert_eq!(asked.expect("nobody cancels"), 1);
        until(|| all_tasks().len() == 1).await;
        let part = rest_of(second).await;
        assert!(part.len() < BYTES, "the rest is forgotten");
        assert!(part.iter().all(|&byte| byte == 7));
    });
}

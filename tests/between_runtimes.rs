//! Two runtimes on one thread: what is armed, in flight or done by tasks in one of them, and asked for
//! in the other, comes or is refused. Nothing waits for a loop that does not turn, and nothing is lost.

#![cfg(not(miri))]

mod common;

use std::future::Future;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::pin::pin;
use std::thread;

use common::*;
use coring::net::{TcpListener, TcpStream, UdpSocket, copy_bidirectional};
use coring::{
    Runner, Stats, StreamReader, StreamWriter, open_connection, sleep, start_server, yield_now,
};
use futures_util::future::{Either, select};

/// By a sleep beside it: what hangs may hear of no limit.
async fn ends<F: Future>(future: F) -> F::Output {
    match select(pin!(future), pin!(sleep(PATIENCE))).await {
        Either::Left((output, _)) => output,
        Either::Right(_) => panic!("it waits for a loop that does not turn"),
    }
}

fn is_elsewhere<T>(result: io::Result<T>, text: &str) {
    let error = error_of(result);
    assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

const POLLED: &str = "outside of its runtime";
const AWAITED: &str = "another runtime";

fn with_two(test: impl FnOnce(&mut Runner, &mut Runner)) {
    let world = World::uring();
    let (mut one, mut two) = (world.runner(), world.runner());
    test(&mut one, &mut two);
    finish(one);
    finish(two);
}

/// Until the loop has taken from the kernel what `cause` brings, and nobody has looked.
async fn taken(cause: impl FnOnce()) {
    turn().await;
    let before = Stats::current().completions;
    cause();
    while Stats::current().completions == before {
        yield_now().await.expect("nobody cancels");
    }
}

/// A stream whose receive is armed in `runner`, which has taken `early`.
fn armed(runner: &mut Runner, early: &[u8]) -> (TcpStream, std::net::TcpStream) {
    let (mut ours, mut theirs) = tcp_pair();
    runner.run(async {
        assert!(poll_once(&mut Box::pin(ours.receive())).await.is_pending());
        taken(|| theirs.write_all(early).expect("it has room")).await;
    });
    (ours, theirs)
}

async fn next(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    ends(stream.receive()).await.map(|lease| lease.to_vec())
}

#[test]
fn stream_leaves_from_another_runtime_than_it_receives_in() {
    with_two(|one, two| {
        let (ours, mut theirs) = armed(one, b"early");
        theirs.write_all(b", late").expect("it has room");
        two.run(async {
            let released = ends(ours.into_std()).await.expect("a runtime turns");
            assert!(released.error.is_none());
            let (mut all, mut socket) = (released.received, released.socket);
            drop(theirs);
            socket.read_to_end(&mut all).expect("it lives");
            assert_eq!(all, b"early, late");
        });
    });
}

/// Dropped when its runtime did not turn any more, so that it has heard of no cancel.
#[test]
fn sockets_leave_while_an_operation_of_another_runtime_is_in_flight() {
    with_two(|one, two| {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let mut receive = Box::pin(udp.recv(Vec::with_capacity(8)));
        let (mut stream, theirs) = tcp_pair();
        let mut write = Box::pin(stream.write_all(vec![7; 32 << 20]));
        one.run(async {
            assert!(poll_once(&mut receive).await.is_pending());
            assert!(poll_once(&mut write).await.is_pending());
            turn().await;
        });
        drop((receive, write));
        two.run(async {
            drop(ends(udp.into_std()).await.expect("a runtime turns"));
            drop(ends(stream.into_std()).await.expect("a runtime turns"));
        });
        drop(theirs);
    });
}

#[test]
fn listener_and_receiver_end_in_another_runtime_than_they_are_armed_in() {
    with_two(|one, two| {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let to = udp.local_addr().expect("it is bound");
        let mut receiver = udp.recv_many();
        let clients = one.run(async {
            assert!(
                poll_once(&mut Box::pin(listener.accept()))
                    .await
                    .is_pending()
            );
            assert!(poll_once(&mut Box::pin(receiver.next())).await.is_pending());
            let mut clients = Vec::new();
            let connect = || clients.push(std::net::TcpStream::connect(addr).expect("it listens"));
            taken(connect).await;
            let peer = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
            let send = || assert_eq!(peer.send_to(b"early", to).expect("it has room"), 5);
            taken(send).await;
            clients
        });
        two.run(async {
            let released = ends(listener.into_std()).await.expect("a runtime turns");
            assert_eq!(released.received.len(), clients.len());
            let received = ends(receiver.finish()).await;
            let payloads = received
                .into_iter()
                .map(|one| one.expect("a datagram").1.to_vec());
            assert_eq!(payloads.collect::<Vec<_>>(), [b"early"]);
            drop(ends(udp.into_fd()).await.expect("no receiver is left"));
        });
    });
}

/// What the one has received comes first, then an error that says where it was, once.
#[test]
fn stream_and_listener_go_on_in_another_runtime_behind_one_error() {
    with_two(|one, two| {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        one.run(async {
            assert!(
                poll_once(&mut Box::pin(listener.accept()))
                    .await
                    .is_pending()
            );
        });
        let (mut ours, mut theirs) = armed(one, b"early");
        two.run(async {
            assert_eq!(next(&mut ours).await.expect("it has come"), b"early");
            is_elsewhere(next(&mut ours).await, POLLED);
            theirs.write_all(b"late").expect("it has room");
            assert_eq!(next(&mut ours).await.expect("it is armed here"), b"late");

            is_elsewhere(ends(listener.accept()).await, POLLED);
            let client = std::net::TcpStream::connect(addr).expect("it listens");
            drop(ends(listener.accept()).await.expect("it is armed here"));
            drop((client, listener, ours, theirs));
        });
    });
}

#[test]
fn two_streams_that_are_joined_go_on_in_another_runtime_behind_one_error() {
    with_two(|one, two| {
        let ((mut a, mut client), (mut b, mut server)) = (tcp_pair(), tcp_pair());
        let mut joined = Box::pin(copy_bidirectional(&mut a, &mut b));
        one.run(async {
            assert!(poll_once(&mut joined).await.is_pending());
            taken(|| client.write_all(b"early").expect("it has room")).await;
        });
        client.write_all(b", late").expect("it has room");
        two.run(async { is_elsewhere(ends(&mut joined).await, POLLED) });
        drop(joined);
        two.run(async {
            drop(client.shutdown(Shutdown::Write));
            drop(server.shutdown(Shutdown::Write));
            ends(copy_bidirectional(&mut a, &mut b))
                .await
                .expect("it is armed here");
        });
        drop((a, b));
        let mut all = String::new();
        server.read_to_string(&mut all).expect("to the end");
        assert_eq!(all, "early, late");
    });
}

#[test]
fn writer_of_another_runtime_refuses_to_wait_and_loses_nothing() {
    const BYTES: usize = 16 << 20;
    with_two(|one, two| {
        let (ours, mut theirs) = tcp_pair();
        let (reader, mut writer) = one.run(async {
            let (reader, mut writer) = ours.into_streams();
            writer.write(vec![7; BYTES]);
            turn().await;
            (reader, writer)
        });
        two.run(async {
            is_elsewhere(ends(writer.flush()).await, AWAITED);
            is_elsewhere(ends(writer.drain()).await, AWAITED);
            writer.write("more");
            writer.close();
            is_elsewhere(ends(writer.wait_closed()).await, AWAITED);
        });
        let peer = thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).map(|_| all)
        });
        one.run(async {
            ends(writer.wait_closed()).await.expect("the peer reads");
            drop((reader, writer));
        });
        let all = peer.join().expect("it reads").expect("to the end");
        assert!(all.len() == BYTES + 4 && all.ends_with(b"\x07more"));
    });
}

#[test]
fn server_of_another_runtime_refuses_to_wait_and_its_connections_live_on() {
    with_two(|one, two| {
        let echo = async |mut reader: StreamReader, mut writer: StreamWriter| {
            while let Ok(line) = reader.readline().await
                && !line.is_empty()
            {
                writer.write(line);
            }
        };
        let (mut server, (mut reader, mut writer)) = one.run(async {
            let server = start_server("127.0.0.1:0", echo)
                .await
                .expect("a free port");
            let addr = server.local_addr().expect("it listens");
            let client = open_connection(addr.to_string()).await.expect("it listens");
            until(|| server.connections() == 1).await;
            (server, client)
        });
        let addr = server.local_addr().expect("it listens");
        two.run(async {
            is_elsewhere(ends(server.wait_closed()).await, AWAITED);
            is_elsewhere(ends(server.serve_forever()).await, AWAITED);
            is_elsewhere(ends(server.shutdown(PATIENCE)).await, AWAITED);
        });
        one.run(async {
            writer.write("hello\n");
            let line = ends(reader.readline()).await.expect("an echo");
            assert_eq!(&line[..], b"hello\n");
            until(|| std::net::TcpStream::connect(addr).is_err()).await;
            writer.write_eof();
            assert!(ends(reader.readline()).await.expect("the end").is_empty());
        });
    });
}

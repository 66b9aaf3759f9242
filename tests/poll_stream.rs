//! What is written for crates that poll: hyper, tokio-util's `Framed`, futures' traits.

#![cfg(all(
    feature = "hyper",
    feature = "tokio",
    feature = "futures-io",
    not(miri)
))]

mod common;

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use coring::net::{TcpListener, TcpStream, UnixStream};
use coring::{HyperTimer, Stats, create_task, is_cancelled, sleep, wait_for};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

#[test]
fn hyper_serves_and_asks_over_one_connection() {
    let world = World::uring();
    world.run(async {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let server = create_task(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let answer = service_fn(async |request: Request<hyper::body::Incoming>| {
                let path = request.uri().path().to_owned();
                let body = request.collect().await.expect("it is whole").to_bytes();
                let answer = [path.as_bytes(), &body].concat();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer))))
            });
            hyper::server::conn::http1::Builder::new()
                .timer(HyperTimer)
                .header_read_timeout(PATIENCE)
                .serve_connection(stream.into_poll(), answer)
                .await
        });
        let stream = TcpStream::connect(addr).await.expect("it listens");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream.into_poll())
            .await
            .expect("it speaks HTTP");
        let driver = create_task(connection);
        for (i, size) in [0, 5, 70_000, 2_000_000, 1].into_iter().enumerate() {
            let body = Full::new(Bytes::from(vec![i as u8; size]));
            let request = Request::post(format!("/{i}"))
                .header("host", "test")
                .body(body);
            let response = sender.send_request(request.expect("a request")).await;
            let body = response.expect("an answer").collect().await;
            let body = body.expect("it is whole").to_bytes();
            assert_eq!(
                body,
                [format!("/{i}").as_bytes(), &vec![i as u8; size]].concat()
            );
        }
        drop(sender);
        driver.await.expect("it ends well");
        server.await.expect("it ends well");
    });
}

#[test]
fn hyper_closes_a_connection_whose_head_takes_too_long() {
    let world = World::uring();
    world.run(async {
        let (ours, mut theirs) = UnixStream::pair().expect("descriptors");
        theirs
            .write_all("GET / HTTP/1.1\r\n")
            .await
            .0
            .expect("there is room");
        let answer = service_fn(async |_: Request<hyper::body::Incoming>| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(HyperTimer)
            .header_read_timeout(20 * MS)
            .serve_connection(ours.into_poll(), answer)
            .await;
        assert!(served.expect_err("it took too long").is_timeout());
    });
}

/// Serves one connection, whose client is a thread that does not wait for the loop.
async fn serve_one(client: fn(&mut net::TcpStream) -> io::Result<String>) {
    let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let client = thread::spawn(move || {
        let mut stream = net::TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")?;
        client(&mut stream)
    });
    let (stream, _) = listener.accept().await.expect("a client");
    let answer = service_fn(async |_: Request<hyper::body::Incoming>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello"))))
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(stream.into_poll(), answer)
        .await;
    let answer = client.join().expect("no panic").expect("it is connected");
    served.expect("it was answered");
    assert!(answer.ends_with("hello"), "{answer}");
}

/// hyper takes an end of the stream that is there before its flush is over for a client that broke
/// off.
#[test]
fn hyper_is_done_with_a_client_that_leaves_with_its_answer() {
    let world = World::uring();
    world.run(async {
        for _ in 0..100 {
            serve_one(|stream| {
                let mut buf = [0; 1000];
                let n = stream.read(&mut buf)?;
                Ok(String::from_utf8_lossy(&buf[..n]).into())
            })
            .await;
        }
    });
}

#[test]
fn hyper_answers_a_client_that_ends_its_side_behind_the_request() {
    let world = World::uring();
    world.run(async {
        for _ in 0..100 {
            serve_one(|stream| {
                stream.shutdown(net::Shutdown::Write)?;
                io::read_to_string(stream)
            })
            .await;
        }
    });
}

#[test]
fn framed_lines_go_both_ways() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = UnixStream::pair().expect("descriptors");
        let echo = create_task(async move {
            let mut lines =
                Framed::new(theirs.into_poll(), LinesCodec::new_with_max_length(100_000));
            while let Some(line) = lines.next().await {
                lines.send(line?).await?;
            }
            Ok::<_, LinesCodecError>(())
        });
        let mut lines = Framed::new(ours.into_poll(), LinesCodec::new());
        for n in [0, 1, 100, 5_000, 90_000] {
            let line = "x".repeat(n);
            lines.send(&line).await.expect("it is connected");
            assert_eq!(
                lines.next().await.expect("a line").expect("it is one"),
                line
            );
        }
        drop(lines);
        echo.await.expect("it ends well");
    });
}

/// The operation is in the adapter: a read that is given up loses nothing.
#[test]
fn polled_read_that_is_given_up_loses_nothing() {
    use tokio::io::AsyncReadExt as _;
    let world = World::uring();
    world.run(async {
        let (ours, mut theirs) = UnixStream::pair().expect("descriptors");
        let mut ours = ours.into_poll();
        for round in 0..20u8 {
            let mut buf = [0; 16];
            {
                let mut read = pin!(ours.read(&mut buf));
                let mut cx = Context::from_waker(Waker::noop());
                assert!(read.as_mut().poll(&mut cx).is_pending());
                theirs
                    .write_all(vec![round; 9])
                    .await
                    .0
                    .expect("there is room");
                sleep(MS).await.expect("nobody cancels");
            }
            assert_eq!(ours.read(&mut buf[..4]).await.expect("bytes"), 4);
            assert_eq!(ours.read(&mut buf).await.expect("bytes"), 5);
            assert_eq!(buf[..5], [round; 5]);
            let limited = wait_for(ours.read(&mut buf), MS).await;
            assert!(is_time_out(&limited.expect_err("nothing comes")));
        }
        drop(theirs);
        assert_eq!(ours.read(&mut [0; 9]).await.expect("the end"), 0);
    });
}

#[test]
fn polled_write_waits_for_a_slow_reader_and_close_for_all() {
    use futures_util::io::AsyncWriteExt as _;
    let world = World::uring();
    world.run(async {
        let (ours, mut theirs) = UnixStream::pair().expect("descriptors");
        let mut ours = ours.into_poll();
        let reader = create_task(async move {
            let mut all = Vec::new();
            loop {
                sleep(Duration::from_micros(200))
                    .await
                    .expect("nobody cancels");
                let lease = theirs.receive().await.expect("bytes");
                if lease.is_empty() {
                    return all;
                }
                all.extend_from_slice(&lease);
            }
        });
        let bytes: Vec<u8> = (0..3_000_000).map(|i| (i / 7) as u8).collect();
        for part in bytes.chunks(100_001) {
            ours.write_all(part).await.expect("it is connected");
        }
        ours.close().await.expect("it is connected");
        let in_flight = Stats::current().in_flight;
        assert!(reader.await == bytes);
        assert!(in_flight <= 2, "{in_flight}");
        let refused = ours.write(b"more").await.expect_err("it was closed");
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(ours.write(b"").await.expect("nothing"), 0);
    });
}

/// A request to stop reaches a task that only polls.
#[test]
fn polled_read_hears_of_a_request_to_stop() {
    struct Reads(coring::PollStream);
    impl Future for Reads {
        type Output = io::Result<usize>;
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            self.0.poll_fill_buf(cx).map_ok(<[u8]>::len)
        }
    }
    let world = World::uring();
    world.run(async {
        let (ours, _theirs) = UnixStream::pair().expect("descriptors");
        let task = begun(Reads(ours.into_poll())).await;
        task.cancel();
        assert!(is_cancelled(&task.await.expect_err("it was asked to stop")));
    });
}

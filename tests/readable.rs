//! Waiting for bytes without a receive that is armed: nothing is taken, nothing is lost.

#![cfg(not(miri))]

mod common;

use std::io::{ErrorKind, Write as _};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use common::*;
use coring::net::UnixStream;
use coring::{Stats, create_task, is_cancelled, sleep, wait_for};

#[test]
fn wait_ends_when_bytes_come_and_leaves_them() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = tcp_pair();
        for round in 0..50_u8 {
            let late = wait_for(ours.readable(), MS / 10).await;
            assert!(is_time_out(&error_of(late)), "nothing is there");
            let waiting = create_task(async move {
                ours.readable().await.expect("bytes");
                ours
            });
            coring::yield_now().await.expect("nobody cancels");
            theirs.write_all(&[round; 3]).expect("it is connected");
            ours = waiting.await;
            ours.readable().await.expect("they are still there");
            assert_eq!(Stats::current().in_flight, 0, "nothing is held");
            assert_eq!(&ours.receive().await.expect("bytes")[..], [round; 3]);
        }
    });
}

#[test]
fn what_had_arrived_counts() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = tcp_pair();
        theirs.write_all(b"hello").expect("it is connected");
        assert_eq!(ours.peek(Vec::with_capacity(1)).await.1, b"h");
        ours.readable().await.expect("in front");
        theirs.write_all(b" world").expect("it is connected");
        sleep(MS).await.expect("nobody cancels");
        assert_eq!(ours.read(Vec::with_capacity(5)).await.1, b"hello");
        // Taken by the receive that was armed, which has ended.
        ours.readable().await.expect("queued");
        assert_eq!(Stats::current().in_flight, 0);
        assert_eq!(&ours.receive().await.expect("bytes")[..], b" world");
        let late = wait_for(ours.readable(), MS).await;
        assert!(is_time_out(&error_of(late)));
    });
}

#[test]
fn end_and_errors_count_and_are_for_the_next_read() {
    let world = World::uring();
    world.run(async {
        for armed in [false, true] {
            let (mut ours, theirs) = tcp_pair();
            if armed {
                assert!(wait_for(ours.receive(), MS / 10).await.is_err());
            }
            drop(theirs);
            if armed {
                sleep(MS).await.expect("nobody cancels");
            }
            for _ in 0..3 {
                ours.readable().await.expect("the end");
            }
            assert!(ours.receive().await.expect("the end").is_empty());

            let (mut ours, mut theirs) = tcp_pair();
            theirs.write_all(b"last").expect("it is connected");
            if armed {
                assert_eq!(ours.read(Vec::with_capacity(2)).await.1, b"la");
            }
            let socket = socket2::SockRef::from(&theirs);
            socket.set_linger(Some(Duration::ZERO)).expect("a socket");
            drop(theirs);
            sleep(MS).await.expect("nobody cancels");
            for _ in 0..3 {
                ours.readable().await.expect("an error");
            }
            let rest = if armed { &b"st"[..] } else { b"last" };
            assert_eq!(&ours.receive().await.expect("bytes")[..], rest);
            ours.readable().await.expect("an error");
            let error = error_of(ours.receive().await);
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    });
}

/// The error that the receive had brought is kept, for whoever asks.
#[test]
fn error_behind_an_ended_receive_is_told_once() {
    let world = World::uring();
    world.run(async {
        for taker in 0..3 {
            let (mut ours, mut theirs) = UnixStream::pair().expect("a pair");
            ours.write_all("unread").await.0.expect("there is room");
            theirs.write_all("x").await.0.expect("there is room");
            assert_eq!(&ours.receive().await.expect("a byte")[..], b"x");
            drop(theirs); // With bytes that were not read: a reset.
            sleep(MS).await.expect("nobody cancels");
            ours.readable().await.expect("an error");
            let error = match taker {
                0 => error_of(ours.receive().await),
                1 => error_of(ours.recv_msg(vec![0; 9], 0).await.0),
                _ => {
                    let released = ours.into_std().await.expect("it is quiet");
                    assert_eq!(
                        released.error.expect("it").kind(),
                        ErrorKind::ConnectionReset
                    );
                    continue;
                }
            };
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(ours.receive().await.expect("the end").is_empty());
        }
    });
}

#[test]
fn wait_that_is_dropped_or_cancelled_leaves_nothing_behind() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = tcp_pair();
        for armed in [false, true, false] {
            if armed {
                assert!(wait_for(ours.receive(), MS / 10).await.is_err());
            }
            for _ in 0..3 {
                let mut wait = pin!(ours.readable());
                let mut cx = Context::from_waker(Waker::noop());
                assert!(wait.as_mut().poll(&mut cx).is_pending());
            }
            let waiting = begun(async move {
                let error = error_of(ours.readable().await);
                assert!(is_cancelled(&error));
                ours
            })
            .await;
            waiting.cancel();
            ours = waiting.await;
        }
        theirs.write_all(b"kept").expect("it is connected");
        ours.readable().await.expect("bytes");
        let (mut reader, _writer) = ours.into_split();
        reader.readable().await.expect("bytes");
        assert_eq!(&reader.receive().await.expect("bytes")[..], b"kept");
    });
}

//! A writer that sends in the background: all of it, in order, however the writer and the run end.

#![cfg(not(miri))]

mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::*;
use coring::net::UnixStream;
use coring::{
    Lease, Runner, Stats, StreamReader, StreamWriter, all_tasks, is_cancelled, now, sleep, wait_for,
};

fn over_unix() -> (StreamReader, StreamWriter, StdUnixStream) {
    let (ours, theirs) = StdUnixStream::pair().expect("sockets");
    let (reader, writer) = UnixStream::from(ours).into_streams();
    (reader, writer, theirs)
}

fn over_tcp() -> (StreamReader, StreamWriter, std::net::TcpStream) {
    let (ours, theirs) = tcp_pair();
    let (reader, writer) = ours.into_streams();
    (reader, writer, theirs)
}

/// Reads to the end, in bits, with pauses.
fn slow_reader(
    mut theirs: impl std::io::Read + Send + 'static,
    seed: u64,
) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut all = Vec::new();
        let mut buf = vec![0; 300_000];
        loop {
            let most = [100, 5_000, 300_000][random.usize(..3)];
            let n = theirs.read(&mut buf[..most]).expect("it is connected");
            if n == 0 {
                return all;
            }
            all.extend_from_slice(&buf[..n]);
            if random.u8(..32) == 0 {
                pause();
            }
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "a thread of a peer, no loop")]
fn pause() {
    thread::sleep(MS);
}

async fn joined<T>(thread: thread::JoinHandle<T>) -> T {
    until(|| thread.is_finished()).await;
    thread.join().expect("no panic there")
}

/// Fills what the kernel takes of a peer that does not read, and more.
fn stuff(writer: &mut StreamWriter) -> usize {
    writer.write(pattern(0, 8 << 20));
    8 << 20
}

fn pumps() -> Vec<coring::TaskRef> {
    let mut all = all_tasks();
    all.retain(|task| task.name() == "stream writer");
    all
}

/// Whatever is written, in whatever form, comes in its order, and all of it.
#[test]
fn all_comes_in_its_order() {
    let world = World::uring();
    for seed in 0..12 {
        world.run(async {
            let mut random = fastrand::Rng::with_seed(seed);
            let (_reader, mut writer, theirs) = over_tcp();
            let (leases, mut source) = StdUnixStream::pair().expect("sockets");
            let (mut leases, _keep) = UnixStream::from(leases).into_streams();
            let peer = slow_reader(theirs, seed);
            let mut sent = 0;
            let total = 10 << 20;
            while sent < total {
                let most = [2, 300, 5_000, 100_000, 3 << 20][random.usize(..5)];
                let n = random.usize(1..most);
                let part = pattern(sent, n);
                match random.u8(..7) {
                    0 => writer.write(&part[..]),
                    1 => writer.write(&part),
                    2 => writer.write(part),
                    3 => writer.write(Lease::from(part).into_bytes()),
                    4 => writer.writelines(part.chunks(777)),
                    5 if n < 20_000 => {
                        source.write_all(&part).expect("it is connected");
                        let lease = leases.readexactly(n).await.expect("it comes");
                        writer.write(lease);
                    }
                    _ => {
                        let (head, tail) = part.split_at(n / 2);
                        let tail = Lease::from(tail.to_vec()).into_bytes();
                        let head = Lease::from(head.to_vec());
                        writer.write(&head);
                        writer.write(&tail);
                        writer.write("");
                        writer.write(Vec::new());
                    }
                }
                sent += n;
                match random.u8(..8) {
                    0..3 => writer.drain().await.expect("it is connected"),
                    3 => {
                        writer.flush().await.expect("it is connected");
                        assert_eq!(writer.buffered(), 0);
                    }
                    4 => {
                        let span = Duration::from_micros(random.u64(..500));
                        if let Err(error) = wait_for(writer.drain(), span).await {
                            assert!(is_time_out(&error));
                        }
                    }
                    5 => turn().await,
                    _ => {}
                }
            }
            match seed % 3 {
                0 => drop(writer),
                1 => writer.write_eof(),
                _ => {
                    writer.close();
                    writer.wait_closed().await.expect("all is sent");
                }
            }
            drop(_reader);
            let got = joined(peer).await;
            assert!(
                got == pattern(0, sent),
                "seed {seed}: {} of {sent}",
                got.len()
            );
        });
    }
}

/// 171: `test_multiple_drain`, as far as one writer can have it, and the two marks.
#[test]
fn b171_drain_waits_above_the_high_mark_until_little_is_left() {
    let world = World::uring();
    world.run(async {
        let (_reader, mut writer, mut theirs) = over_unix();
        // Up to 64 KiB it does not wait, whatever the kernel does.
        writer.write(vec![1; 64 * 1024]);
        assert_eq!(writer.buffered(), 64 * 1024);
        wait_for(writer.drain(), Duration::ZERO)
            .await
            .expect_err("a checkpoint");
        let mut drain = Box::pin(writer.drain());
        assert!(poll_once(&mut drain).await.is_ready());
        drop(drain);
        writer.write("x");
        let mut drain = Box::pin(writer.drain());
        assert!(poll_once(&mut drain).await.is_pending());
        drain.await.expect("the kernel has room");
        assert!(writer.buffered() <= 16 * 1024);
        // More than the kernel takes.
        writer.write(vec![2; 3 << 20]);
        for _ in 0..3 {
            let error = error_of(wait_for(writer.drain(), 10 * MS).await);
            assert!(is_time_out(&error));
        }
        assert!(writer.buffered() > 16 * 1024);
        let peer = thread::spawn(move || {
            let mut all = vec![0; (64 << 10) + 1 + (3 << 20)];
            theirs.read_exact(&mut all).expect("it comes");
            theirs
        });
        writer.drain().await.expect("it is read");
        assert!(writer.buffered() <= 16 * 1024);
        drop(joined(peer).await);
    });
}

#[test]
fn high_mark_can_be_moved() {
    let world = World::uring();
    world.run(async {
        let (_reader, mut writer, theirs) = over_unix();
        writer.set_high_water(0);
        writer.write(vec![1; 4 << 20]);
        assert!(is_time_out(&error_of(
            wait_for(writer.drain(), 5 * MS).await
        )));
        let peer = slow_reader(theirs, 1);
        writer.drain().await.expect("it is read");
        assert_eq!(writer.buffered(), 0);
        writer.set_high_water(usize::MAX);
        writer.write(vec![1; 4 << 20]);
        let mut drain = Box::pin(writer.drain());
        assert!(poll_once(&mut drain).await.is_ready());
        drop(drain);
        drop((writer, _reader));
        assert_eq!(joined(peer).await.len(), 8 << 20);
    });
}

/// 171: `test_drain_raises`: who writes and drains comes to an end when the peer is gone.
#[test]
fn b171_write_and_drain_end_when_the_peer_is_gone() {
    let world = World::uring();
    world.run(async {
        for resets in [false, true] {
            let (_reader, mut writer, theirs) = over_tcp();
            if resets {
                reset(theirs);
            } else {
                drop(theirs);
            }
            let begin = now();
            let error = loop {
                writer.write("as long as it goes ");
                if let Err(error) = writer.drain().await {
                    break error;
                }
                assert!(now() - begin < PATIENCE, "it goes on for ever");
                turn().await;
            };
            let expected = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(expected.contains(&error.kind()), "{error}");
            // By each, each time, with its number.
            for _ in 0..3 {
                writer.write("more");
                assert_eq!(writer.buffered(), 0);
                for again in [
                    writer.drain().await,
                    writer.flush().await,
                    writer.wait_closed().await,
                ] {
                    assert_eq!(error_of(again).raw_os_error(), error.raw_os_error());
                }
            }
        }
    });
}

/// What a task writes until it waits goes out together; nobody needs to drain.
#[test]
fn many_writes_before_the_first_await_are_one_send() {
    let world = World::uring();
    world.run(async {
        let (_reader, mut writer, mut theirs) = over_unix();
        let before = Stats::current().submissions;
        for i in 0..1_000 {
            writer.write(&pattern(i, 1)[..]);
        }
        assert_eq!(writer.buffered(), 1_000);
        writer.flush().await.expect("the kernel has room");
        assert!(Stats::current().submissions - before <= 2);
        let mut all = [0; 1_000];
        theirs.read_exact(&mut all).expect("it has come");
        assert_eq!(&all[..], pattern(0, 1_000));
    });
}

/// What has been sent silently is not counted for ever.
#[test]
fn buffered_comes_to_nothing_by_itself() {
    let world = World::uring();
    world.run(async {
        let (_reader, mut writer, _theirs) = over_unix();
        writer.write("small");
        assert_eq!(writer.buffered(), 5);
        until(|| writer.buffered() == 0).await;
        writer.write("again");
        assert_eq!(writer.buffered(), 5);
        until(|| writer.buffered() == 0).await;
    });
}

#[test]
fn flush_waits_for_all() {
    let world = World::uring();
    world.run(async {
        let (_reader, mut writer, theirs) = over_unix();
        writer.flush().await.expect("there is nothing");
        let sent = stuff(&mut writer);
        assert!(is_time_out(&error_of(
            wait_for(writer.flush(), 5 * MS).await
        )));
        let peer = slow_reader(theirs, 7);
        writer.flush().await.expect("it is read");
        assert_eq!(writer.buffered(), 0);
        drop((_reader, writer));
        assert!(joined(peer).await == pattern(0, sent));
    });
}

/// After the end is written the other direction goes on.
#[test]
fn write_eof_comes_after_what_was_written_and_reading_goes_on() {
    let world = World::uring();
    world.run(async {
        let (mut reader, mut writer, mut theirs) = over_tcp();
        let sent = stuff(&mut writer);
        writer.write_eof();
        writer.write_eof();
        let peer = thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).expect("to the end");
            theirs.write_all(b"thanks").expect("the other direction");
            all
        });
        assert_eq!(reader.read_to_end().await.expect("the answer"), b"thanks");
        writer.flush().await.expect("all is sent");
        assert!(joined(peer).await == pattern(0, sent));
        writer.close();
        writer.wait_closed().await.expect("nothing is left");
    });
}

/// An end without a byte before it, and behind what was sent long ago.
#[test]
fn ends_are_told_whatever_was_written() {
    let world = World::uring();
    world.run(async {
        for wrote in [false, true] {
            for way in 0..3 {
                let (reader, mut writer, mut theirs) = over_unix();
                if wrote {
                    writer.write("x");
                    turn().await;
                }
                let mut rest = Some((reader, writer));
                match way {
                    0 => rest.as_mut().expect("it is there").1.write_eof(),
                    1 => rest.as_mut().expect("it is there").1.close(),
                    _ => rest = None,
                }
                let peer = thread::spawn(move || {
                    let mut all = Vec::new();
                    theirs.read_to_end(&mut all).expect("to the end");
                    all.len()
                });
                assert_eq!(joined(peer).await, usize::from(wrote), "way {way}");
                drop(rest);
            }
        }
    });
}

/// 172: `test_wait_closed_on_close`, `_with_unread_data`, `test_eof_feed_when_closing_writer`.
#[test]
fn b172_closed_whatever_is_unread() {
    let world = World::uring();
    world.run(async {
        for unread in [false, true] {
            let (mut reader, mut writer, mut theirs) = over_tcp();
            theirs.write_all(b"line\n").expect("it is connected");
            assert_eq!(&reader.readline().await.expect("a line")[..], b"line\n");
            if unread {
                theirs.write_all(b"and more").expect("it is connected");
            }
            assert!(!writer.is_closing());
            writer.close();
            assert!(writer.is_closing());
            writer.wait_closed().await.expect("it closes");
            writer.wait_closed().await.expect("it is closed");
            writer.close();
            assert_eq!(
                reader.read_to_end().await.expect("the end"),
                if unread { &b"and more"[..] } else { b"" }
            );
            assert!(reader.at_eof());
        }
    });
}

/// 172: `test_async_writer_api_exception_after_close`: what is written behind the end goes
/// nowhere, and that is told.
#[test]
fn b172_write_after_the_end_is_told() {
    let world = World::uring();
    world.run(async {
        for closes in [false, true] {
            let (_reader, mut writer, theirs) = over_unix();
            writer.write("before");
            if closes {
                writer.close();
            } else {
                writer.write_eof();
            }
            writer.drain().await.expect("nothing came behind it");
            writer.write("");
            writer.flush().await.expect("nothing came behind it");
            writer.write("behind");
            for _ in 0..2 {
                let error = error_of(writer.drain().await);
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
                let error = error_of(writer.flush().await);
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            }
            assert_eq!(writer.buffered(), 0);
            let peer = slow_reader(theirs, 1);
            assert_eq!(joined(peer).await, b"before");
            // It is no fault of the connection.
            writer.close();
            writer.wait_closed().await.expect("it closes");
        }
    });
}

#[test]
fn close_sends_what_was_written() {
    let world = World::uring();
    world.run(async {
        let (_reader, mut writer, theirs) = over_tcp();
        let sent = stuff(&mut writer);
        writer.close();
        assert!(is_time_out(&error_of(
            wait_for(writer.wait_closed(), 5 * MS).await
        )));
        let peer = slow_reader(theirs, 3);
        writer.wait_closed().await.expect("it is read");
        assert_eq!(writer.buffered(), 0);
        assert!(joined(peer).await == pattern(0, sent));
    });
}

/// Aborted while a send waits for a peer that does not read: nothing goes on, and the connection
/// ends, at both ends.
#[test]
fn abort_forgets_what_is_not_sent() {
    let world = World::uring();
    let panics = Arc::new(AtomicUsize::new(0));
    let count = panics.clone();
    std::panic::set_hook(Box::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    world.run(async {
        for way in 0..4 {
            let (mut reader, mut writer, mut theirs) = over_unix();
            let sent = stuff(&mut writer);
            let mut read = 0;
            match way {
                0 => {} // Nothing is sent yet.
                1 => turn().await,
                // The send that waits has sent a part.
                2 => {
                    turn().await;
                    for _ in 0..10 {
                        read += theirs.read(&mut vec![0; 100_000]).expect("it has come");
                        turn().await;
                    }
                }
                _ => {
                    turn().await;
                    writer.close();
                    turn().await;
                }
            }
            writer.abort();
            assert_eq!(writer.buffered(), 0);
            writer.write("more");
            for _ in 0..2 {
                let error = error_of(writer.drain().await);
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
                let error = error_of(writer.wait_closed().await);
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            }
            until(|| pumps().is_empty()).await;
            let end = reader.read_to_end().await.expect("the end");
            assert!(end.is_empty());
            let peer = thread::spawn(move || {
                let mut all = Vec::new();
                theirs.read_to_end(&mut all).expect("to the end");
                all
            });
            let all = joined(peer).await;
            drop((reader, writer));
            assert!(all.len() < sent);
            assert!(all == pattern(read, all.len()));
        }
        assert_eq!(panics.load(Ordering::Relaxed), 0, "of the task that sends");
        drop(std::panic::take_hook());
        let (_reader, mut writer, _theirs) = over_unix();
        writer.abort();
        writer.abort();
        assert_eq!(
            error_of(writer.flush().await).kind(),
            ErrorKind::ConnectionAborted
        );
    });
}

/// A reset reaches whoever waits, in whatever state the writer is.
#[test]
fn reset_is_told_in_every_state() {
    let world = World::uring();
    world.run(async {
        for state in 0..6 {
            let (reader, mut writer, theirs) = over_tcp();
            if state > 0 {
                stuff(&mut writer);
            }
            match state {
                2 => turn().await,
                3 => writer.write_eof(),
                4 => writer.close(),
                _ => {}
            }
            let waiting = begun(async move {
                let told = match state {
                    0 => {
                        // Nothing is on its way: the next write finds it.
                        sleep(20 * MS).await?;
                        writer.write("x");
                        writer.flush().await
                    }
                    1 | 2 => writer.drain().await,
                    4 => writer.wait_closed().await,
                    _ => writer.flush().await,
                };
                assert_eq!(writer.buffered(), 0);
                drop((reader, writer));
                told
            })
            .await;
            turn().await;
            reset(theirs);
            let error = error_of(waiting.await);
            let expected = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(expected.contains(&error.kind()), "{state}: {error}");
            until(|| pumps().is_empty()).await;
        }
    });
}

/// Dropped with the peer resetting the connection: nobody to tell, and nothing is left.
#[test]
fn reset_of_a_writer_that_was_dropped_leaves_nothing() {
    let world = World::uring();
    world.run(async {
        let (reader, mut writer, theirs) = over_tcp();
        stuff(&mut writer);
        drop((reader, writer));
        turn().await;
        assert_eq!(pumps().len(), 1);
        reset(theirs);
        until(|| pumps().is_empty()).await;
    });
}

#[test]
fn dropped_writer_sends_all_to_a_slow_peer() {
    let world = World::uring();
    world.run(async {
        for waits in [false, true] {
            let (reader, mut writer, theirs) = over_tcp();
            let sent = stuff(&mut writer);
            if waits {
                turn().await;
            }
            drop((reader, writer));
            let peer = slow_reader(theirs, 5);
            assert!(joined(peer).await == pattern(0, sent));
            until(|| pumps().is_empty()).await;
        }
    });
}

/// `run`, as programs have it: its end asks all tasks to stop.
fn run_to_the_end(grace: Duration, main: impl Future<Output = ()>) -> Duration {
    let begin = std::time::SystemTime::UNIX_EPOCH;
    let mut runner = Runner::builder().grace(grace).build().expect("a runner");
    let begin = clock_since(begin);
    runner.run(main);
    runner.close();
    clock_since(std::time::SystemTime::UNIX_EPOCH) - begin
}

#[expect(clippy::disallowed_methods, reason = "no runtime is turning then")]
fn clock_since(clock: std::time::SystemTime) -> Duration {
    std::time::SystemTime::now()
        .duration_since(clock)
        .unwrap_or_default()
}

/// The end of the run flushes what a peer still takes.
#[test]
fn end_of_the_run_sends_what_was_written() {
    let world = World::uring();
    for way in 0..4 {
        let mut peer = None;
        let took = run_to_the_end(PATIENCE, async {
            let (reader, mut writer, theirs) = over_tcp();
            stuff(&mut writer);
            peer = Some(slow_reader(theirs, way));
            match way {
                0 => {}
                1 => turn().await,
                2 => writer.close(),
                _ => {
                    // Somebody else has it, and is asked to stop.
                    begun(async move {
                        let drained = writer.drain().await;
                        assert!(is_cancelled(&error_of(drained)));
                        drop((writer, reader));
                    })
                    .await;
                }
            }
        });
        let got = peer.expect("it began").join().expect("it reads");
        assert!(got == pattern(0, 8 << 20), "{way}: {} bytes", got.len());
        assert!(took < PATIENCE, "{took:?}");
    }
    drop(world);
}

/// A peer that never reads does not keep the run from ending.
#[test]
fn end_of_the_run_is_bounded_by_the_grace() {
    let world = World::uring();
    let grace = Duration::from_millis(150);
    for way in 0..4 {
        let mut peer = None;
        let took = run_to_the_end(grace, async {
            let (reader, mut writer, theirs) = over_tcp();
            stuff(&mut writer);
            peer = Some(theirs);
            match way {
                0 => {}
                1 => turn().await,
                2 => writer.close(),
                _ => {
                    begun(async move {
                        // Deaf to requests: is dropped in the end.
                        while writer.flush().await.is_err() {}
                        drop(reader);
                    })
                    .await;
                }
            }
        });
        assert!(took >= grace, "{took:?}");
        assert!(took < grace * 10, "{took:?}");
        drop(peer);
    }
    drop(world);
}

/// A writer that outlives its run, with nothing to send, does not hold that up; and goes on in
/// another one.
#[test]
fn writer_that_outlives_its_run_goes_on_in_another() {
    let world = World::uring();
    for wrote in 0..3 {
        let mut kept = None;
        let mut peer = None;
        let took = run_to_the_end(PATIENCE, async {
            let (reader, mut writer, theirs) = over_unix();
            for _ in 0..wrote {
                writer.write("first ");
                turn().await;
            }
            kept = Some((reader, writer));
            peer = Some(theirs);
        });
        assert!(took < PATIENCE / 4, "it was held up: {took:?}");
        world.run(async {
            let (reader, mut writer) = kept.take().expect("it was kept");
            assert_eq!(writer.buffered(), 0);
            writer.write("second");
            writer.flush().await.expect("it goes on");
            drop((reader, writer));
            let mut all = String::new();
            let mut theirs = peer.take().expect("it is there");
            let peer = thread::spawn(move || {
                theirs.read_to_string(&mut all).expect("to the end");
                all
            });
            assert_eq!(joined(peer).await, "first ".repeat(wrote) + "second");
        });
    }
}

/// A task that was asked to stop, as the end of the run asks it, still says good-bye.
#[test]
fn task_that_was_asked_to_stop_can_still_write() {
    let world = World::uring();
    for wrote in 0..3 {
        let mut peer = None;
        let took = run_to_the_end(PATIENCE, async {
            let (mut reader, mut writer, theirs) = over_unix();
            begun(async move {
                for _ in 0..wrote {
                    writer.write("hello ");
                    turn().await;
                }
                let error = error_of(reader.readline().await);
                assert!(is_cancelled(&error));
                // Longer than the end gives those that it takes for deaf.
                sleep(20 * MS).await.expect("asked once");
                writer.write("bye");
                writer.flush().await.expect("asked once");
                sleep(20 * MS).await.expect("asked once");
                writer.write(" bye");
            })
            .await;
            sleep(10 * MS).await.expect("nobody cancels");
            peer = Some(theirs);
        });
        assert!(took < PATIENCE / 4, "it was held up: {took:?}");
        let mut all = String::new();
        let mut theirs = peer.expect("it is there");
        theirs.read_to_string(&mut all).expect("to the end");
        assert_eq!(all, "hello ".repeat(wrote) + "bye bye");
    }
    drop(world);
}

#[test]
fn drain_that_is_cancelled_leaves_the_writer_as_it_was() {
    let world = World::uring();
    world.run(async {
        let (reader, mut writer, theirs) = over_tcp();
        let sent = stuff(&mut writer);
        let task = begun(async move {
            for waits in [0, 1, 2] {
                let waited = match waits {
                    0 => writer.drain().await,
                    1 => writer.flush().await,
                    _ => {
                        writer.close();
                        writer.wait_closed().await
                    }
                };
                assert!(is_cancelled(&error_of(waited)));
            }
            (reader, writer)
        })
        .await;
        for _ in 0..3 {
            turn().await;
            task.cancel();
        }
        let (reader, mut writer) = task.await;
        let peer = slow_reader(theirs, 9);
        writer.wait_closed().await.expect("it is read");
        drop((reader, writer));
        assert!(joined(peer).await == pattern(0, sent));
    });
}

/// The task that sends is one of `all_tasks`: who cancels it loses nothing.
#[test]
fn pump_that_is_cancelled_sends_all_the_same() {
    let world = World::uring();
    world.run(async {
        for state in 0..5 {
            let (reader, mut writer, theirs) = over_tcp();
            let mut sent = 0;
            match state {
                // Before it began; while it is parked; then with a silent send behind it.
                0 => sent += stuff(&mut writer),
                1 | 2 => {
                    writer.write(pattern(0, 10));
                    sent += 10;
                    if state == 1 {
                        writer.flush().await.expect("there is room");
                    }
                    turn().await;
                }
                // In the middle of a send that waits, and with an end behind it.
                _ => {
                    sent += stuff(&mut writer);
                    turn().await;
                    if state == 4 {
                        writer.write_eof();
                    }
                }
            }
            for _ in 0..3 {
                for pump in pumps() {
                    pump.cancel();
                }
                turn().await;
            }
            if state != 4 {
                for _ in 0..20 {
                    let n = 1 + sent % 5_000;
                    writer.write(pattern(sent, n));
                    sent += n;
                    for pump in pumps() {
                        pump.cancel();
                    }
                    if sent % 3 == 0 {
                        turn().await;
                    }
                }
            }
            let peer = slow_reader(theirs, state);
            writer.flush().await.expect("it is read");
            drop((reader, writer));
            let got = joined(peer).await;
            assert!(got == pattern(0, sent), "{state}: {} of {sent}", got.len());
            until(|| pumps().is_empty()).await;
        }
    });
}

/// Chunks in one send that come to more than the kernel takes at once.
#[test]
fn several_gigabytes_in_one_write() {
    if std::env::var_os("CORING_LONG").is_none() {
        return;
    }
    let world = World::uring();
    world.run(async {
        let (_reader, mut writer, mut theirs) = over_unix();
        let total = 10 + 3 * (1_usize << 30);
        writer.write(Lease::from(vec![1; 10]));
        writer.write(vec![0; 3 << 30]);
        writer.write_eof();
        let peer = thread::spawn(move || {
            let mut n = 0;
            let mut buf = vec![0; 1 << 20];
            loop {
                match theirs.read(&mut buf).expect("it is connected") {
                    0 => return n,
                    more => n += more,
                }
            }
        });
        assert_eq!(joined(peer).await, total);
    });
}

/// A connection that has been answered and is idle keeps no buffer: else all of the pool would be
/// with those that ask nothing any more.
#[test]
fn lease_that_was_sent_is_given_back_though_nobody_writes_again() {
    let world = World::uring();
    world.run(async {
        let (mut reader, mut writer, mut theirs) = over_tcp();
        for n in [64, 1_000, 16 * 1024, 100_000] {
            theirs.write_all(&pattern(0, n)).expect("there is room");
            writer.write(reader.readexactly(n).await.expect("it comes"));
            let mut answer = vec![0; n];
            let answered = thread::spawn(move || {
                theirs.read_exact(&mut answer).expect("it is answered");
                (theirs, answer)
            });
            let answer;
            (theirs, answer) = joined(answered).await;
            assert!(answer == pattern(0, n));
            until(|| Stats::current().buffers.leases == 0).await;
        }
    });
}

#[test]
fn high_water_counts_at_once() {
    let world = World::uring();
    world.run(async {
        let (_reader, mut writer, _theirs) = over_unix();
        let sent = stuff(&mut writer);
        for (bytes, waits) in [
            (sent * 8, false),
            (0, true),
            (sent * 8, false),
            (sent / 2, true),
        ] {
            writer.set_high_water(bytes);
            let drained = wait_for(writer.drain(), MS).await;
            assert_eq!(drained.is_err(), waits, "{bytes}");
        }
        writer.abort();
    });
}

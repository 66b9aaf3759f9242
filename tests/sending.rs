//! Ways to send: several buffers, from where they are, whole files; and that no signal comes of it.

#![cfg(not(miri))]

mod common;

use std::io::{self, ErrorKind, Read as _};
use std::net::Shutdown;
use std::pin::pin;
use std::process::Command;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use common::*;
use coring::fs::File;
use coring::net::{Ancillary, UnixStream, copy_bidirectional};
use coring::{BufResult, IoBuf as _, Partial, create_task, is_cancelled, sleep, wait_for};
use socket2::SockRef;

/// Reads to the end, slowly if it is told so.
fn reader(
    mut socket: impl io::Read + Send + 'static,
    slow: bool,
) -> thread::JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let (mut all, mut step) = (Vec::new(), vec![0; if slow { 7_001 } else { 1 << 20 }]);
        loop {
            match socket.read(&mut step)? {
                0 => return Ok(all),
                n => all.extend_from_slice(&step[..n]),
            }
            if slow {
                thread::yield_now();
            }
        }
    })
}

fn transferred(error: &io::Error) -> usize {
    let partial = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Partial>());
    partial.map_or(0, |partial| partial.transferred)
}

// ---- several buffers ----

#[test]
fn buffers_of_any_kind_and_number_arrive_in_their_order() {
    let world = World::uring();
    world.run(async {
        let (mut ours, theirs) = tcp_pair();
        let theirs = reader(theirs, false);
        let mut expected = Vec::new();
        ours.write_all_vectored(("head", vec![1_u8, 2]))
            .await
            .0
            .expect("it is read");
        expected.extend(b"head\x01\x02");
        for parts in [1, 2, 3, 4, 5, 1_023, 1_024, 1_025, 5_000] {
            let bufs: Vec<Vec<u8>> = (0..parts).map(|i| pattern(i, i % 5)).collect();
            bufs.iter().for_each(|buf| expected.extend(buf));
            let BufResult(written, back) = ours.write_all_vectored(bufs).await;
            written.expect("it is read");
            assert_eq!(back.len(), parts);
        }
        let (_reader, mut writer) = ours.into_split();
        let slices = [pattern(0, 50).slice(10..20), pattern(7, 9).slice(..3)];
        let BufResult(n, _) = writer.write_vectored(slices).await;
        assert_eq!(n.expect("there is room"), 13);
        expected.extend(&pattern(0, 50)[10..20]);
        expected.extend(&pattern(7, 9)[..3]);
        writer
            .write_all_vectored(["a", "", "b"])
            .await
            .0
            .expect("it is read");
        expected.extend(b"ab");
        writer.shutdown().await.expect("it is connected");
        assert!(theirs.join().expect("a reader").expect("to the end") == expected);
    });
}

#[test]
fn buffers_without_bytes_write_nothing() {
    let world = World::uring();
    world.run(async {
        let (mut ours, _theirs) = tcp_pair();
        let none: Vec<Vec<u8>> = Vec::new();
        assert_eq!(ours.write_vectored(none).await.0.expect("nothing"), 0);
        ours.write_all_vectored(["", ""]).await.0.expect("nothing");
        ours.write_all_vectored(vec![""; 3_000])
            .await
            .0
            .expect("nothing");
    });
}

#[test]
fn buffers_that_a_slow_peer_takes_bit_by_bit_arrive_whole() {
    let world = World::uring();
    world.run(async {
        let (mut ours, theirs) = tcp_pair();
        SockRef::from(&ours)
            .set_send_buffer_size(4_096)
            .expect("a socket");
        let theirs = reader(theirs, true);
        let bufs: Vec<_> = (0..3_000).map(|i| pattern(i, 1_000 + i)).collect();
        let expected = bufs.concat();
        let BufResult(written, bufs) = ours.write_all_vectored(bufs).await;
        written.expect("it is read");
        assert_eq!(bufs.len(), 3_000);
        ours.shutdown(Shutdown::Write)
            .await
            .expect("it is connected");
        until(|| theirs.is_finished()).await;
        assert!(theirs.join().expect("a reader").expect("to the end") == expected);
    });
}

#[test]
fn buffers_that_are_stopped_half_way_say_how_much_went() {
    let world = World::uring();
    world.run(async {
        for cancel in [false, true] {
            let (mut ours, theirs) = tcp_pair();
            let bufs: Vec<_> = (0..64).map(|i| pattern(i << 20, 1 << 20)).collect();
            let expected = bufs.concat();
            let (error, back) = if cancel {
                let task = create_task(async move {
                    let BufResult(written, bufs) = ours.write_all_vectored(bufs).await;
                    (error_of(written), bufs)
                });
                sleep(5 * MS).await.expect("nobody cancels");
                task.cancel();
                task.await
            } else {
                let BufResult(written, bufs) =
                    wait_for(ours.write_all_vectored(bufs), 5 * MS).await;
                drop(ours);
                (error_of(written), bufs)
            };
            assert_eq!((is_cancelled(&error), back.len()), (cancel, 64), "{error}");
            let all = reader(theirs, false)
                .join()
                .expect("a reader")
                .expect("to the end");
            assert_eq!(all.len(), transferred(&error));
            assert!(all[..] == expected[..all.len()] && !all.is_empty());
        }
    });
}

#[test]
fn buffers_whose_write_is_dropped_at_any_moment_leave_nothing_behind() {
    let world = World::uring();
    for polls in 0..4 {
        world.run(async {
            let (mut ours, theirs) = tcp_pair();
            let bufs: Vec<_> = (0..2_000).map(|i| pattern(i, 20_000)).collect();
            {
                let mut write = pin!(ours.write_all_vectored(bufs));
                for _ in 0..polls {
                    let polled = write.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    assert!(polled.is_pending());
                    sleep(MS).await.expect("nobody cancels");
                }
            }
            reset(theirs);
        });
    }
}

// ---- from where they are ----

#[test]
fn zero_copy_sends_arrive_and_say_that_loopback_copies() {
    let world = World::uring();
    world.run(async {
        let (mut ours, theirs) = tcp_pair();
        let theirs = reader(theirs, true);
        let mut expected = Vec::new();
        for len in [1, 64, 4_096, 70_000, 3 << 20] {
            let BufResult(copied, back) = ours.send_zc_all(pattern(len, len)).await;
            assert!(copied.expect("it is read"), "loopback copies");
            assert!(back == pattern(len, len));
            expected.extend(back);
        }
        let BufResult(n, _) = ours.send_zc("tail").await;
        assert_eq!(n.expect("there is room"), 4);
        expected.extend(b"tail");
        assert_eq!(ours.send_zc("").await.0.expect("nothing"), 0);
        let (_reader, mut writer) = ours.into_split();
        assert!(writer.send_zc_all("end").await.0.expect("it is read"));
        expected.extend(b"end");
        writer.shutdown().await.expect("it is connected");
        until(|| theirs.is_finished()).await;
        assert!(theirs.join().expect("a reader").expect("to the end") == expected);
    });
}

/// Reads to the end once it is told to.
fn late_reader(
    socket: impl io::Read + Send + 'static,
) -> (mpsc::Sender<()>, thread::JoinHandle<io::Result<Vec<u8>>>) {
    let (go, wait) = mpsc::channel();
    let late = thread::spawn(move || {
        let _ = wait.recv();
        reader(socket, false).join().expect("a reader")
    });
    (go, late)
}

/// The kernel has the bytes until the peer has confirmed them: a limit passes before, and the buffer
/// comes after.
#[test]
fn zero_copy_send_that_times_out_waits_for_its_buffer() {
    let world = World::uring();
    world.run(async {
        for limit in [0, 1, 3, 10] {
            let (mut ours, theirs) = tcp_pair();
            let (go, late) = late_reader(theirs);
            let data = pattern(0, 32 << 20);
            let send = async move { wait_for(ours.send_zc_all(data), limit * MS).await };
            let mut send = begun(send).await;
            sleep((limit + 10) * MS).await.expect("nobody cancels");
            if limit > 0 {
                let polled = poll_once(&mut send).await;
                assert!(polled.is_pending(), "the peer has not read");
            }
            go.send(()).expect("it waits");
            let BufResult(sent, back) = send.await;
            let error = error_of(sent);
            assert!(coring::is_timed_out(&error), "{error}");
            let all = late.join().expect("a reader").expect("to the end");
            assert_eq!(all.len(), transferred(&error));
            assert!(all[..] == back[..all.len()]);
        }
    });
}

#[test]
fn zero_copy_send_that_is_cancelled_at_any_moment_gives_its_buffer() {
    let world = World::uring();
    world.run(async {
        for micros in [0, 50, 200, 1_000, 4_000] {
            let (mut ours, theirs) = tcp_pair();
            let (go, late) = late_reader(theirs);
            let task = create_task(async move {
                let mut buf = pattern(0, 300_000);
                let mut sent = 0;
                loop {
                    let BufResult(result, back) = ours.send_zc_all(buf).await;
                    buf = back;
                    assert_eq!(buf.len(), 300_000);
                    match result {
                        Ok(_) => sent += buf.len(),
                        Err(error) => return (sent + transferred(&error), error),
                    }
                }
            });
            if micros % 100 == 0 {
                go.send(()).expect("it waits");
            }
            sleep(Duration::from_micros(micros))
                .await
                .expect("nobody cancels");
            task.cancel();
            let _ = go.send(());
            let (sent, error) = task.await;
            assert!(is_cancelled(&error), "{error}");
            let all = late.join().expect("a reader").expect("to the end");
            assert_eq!(all.len(), sent);
        }
    });
}

/// Dropped while the kernel has its buffer, with all bytes on their way: they arrive.
#[test]
fn zero_copy_send_that_is_dropped_before_its_notification_keeps_its_buffer() {
    let world = World::uring();
    world.run(async {
        let (mut ours, theirs) = tcp_pair();
        SockRef::from(&ours)
            .set_send_buffer_size(4 << 20)
            .expect("a socket");
        let (go, late) = late_reader(theirs);
        let filled = ours
            .write(vec![1; 32 << 20])
            .await
            .0
            .expect("there is room");
        {
            let mut send = pin!(ours.send_zc(pattern(0, 30_000)));
            for _ in 0..10 {
                let polled = send.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(polled.is_pending(), "the peer has not read");
                sleep(MS).await.expect("nobody cancels");
            }
        }
        drop(ours);
        sleep(5 * MS).await.expect("nobody cancels");
        go.send(()).expect("it waits");
        until(|| late.is_finished()).await;
        let all = late.join().expect("a reader").expect("to the end");
        assert!(all[filled..] == pattern(0, all.len() - filled));
    });
}

#[test]
fn zero_copy_sends_that_are_dropped_at_any_moment_leave_nothing_behind() {
    let world = World::uring();
    for polls in 0..5 {
        world.run(async {
            let (mut ours, theirs) = tcp_pair();
            for len in [100, 100_000, 30 << 20] {
                let mut send = pin!(ours.send_zc_all(vec![7; len]));
                for _ in 0..polls {
                    let mut cx = Context::from_waker(Waker::noop());
                    if send.as_mut().poll(&mut cx).is_ready() {
                        break;
                    }
                    coring::yield_now().await.expect("nobody cancels");
                }
            }
            if polls % 2 == 0 {
                reset(theirs);
            }
        });
    }
}

// ---- files ----

#[test]
fn files_of_any_size_arrive_from_any_offset() {
    let world = World::uring();
    world.run(async {
        for len in [0, 1, 4_096, 262_143, 262_144, 262_145, 524_288, 3_000_001] {
            let temp = Temp::file(&pattern(0, len));
            let file = File::open(&temp).await.expect("it is there");
            for (offset, count) in [
                (0, None),
                (0, Some(len.max(1))),
                (len / 2, None),
                (len / 3, Some(1_000)),
                (len / 3, Some(300_000)),
                (len, None),
                (len + 10, None),
                (0, Some(usize::MAX / 2)),
            ] {
                let (mut ours, theirs) = tcp_pair();
                let theirs = reader(theirs, false);
                let to = len.min(count.map_or(len, |count| offset.saturating_add(count)));
                let expected = pattern(offset.min(to), to.saturating_sub(offset));
                let sent = ours
                    .sendfile(&file, offset as u64, count.map(|count| count as u64))
                    .await;
                assert_eq!(sent.expect("it is read"), expected.len() as u64);
                drop(ours);
                assert!(theirs.join().expect("a reader").expect("to the end") == expected);
            }
        }
    });
}

#[test]
fn arguments_that_mean_nothing_are_refused_and_nothing_is_sent() {
    let world = World::uring();
    world.run(async {
        let temp = Temp::file(b"content");
        let file = File::open(&temp).await.expect("it is there");
        let (mut ours, theirs) = tcp_pair();
        for (offset, count) in [
            (0, Some(0)),
            (u64::MAX, None),
            (i64::MAX as u64 + 1, Some(1)),
        ] {
            let error = error_of(ours.sendfile(&file, offset, count).await);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        // A directory is no file, nor is what is only to be written.
        let directory = File::open(std::env::temp_dir()).await.expect("it is there");
        let error = error_of(ours.sendfile(&directory, 0, None).await);
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
        drop(ours);
        assert_eq!(
            reader(theirs, false)
                .join()
                .expect("a reader")
                .expect("the end"),
            b""
        );
    });
}

#[test]
fn file_that_is_stopped_half_way_says_how_much_went() {
    let world = World::uring();
    world.run(async {
        let temp = Temp::file(&pattern(0, 32 << 20));
        let file = File::open(&temp).await.expect("it is there");
        for limit in [1, 5, 20] {
            let (mut ours, theirs) = tcp_pair();
            let sent = wait_for(ours.sendfile(&file, 3, None), limit * MS).await;
            let error = error_of(sent);
            assert!(coring::is_timed_out(&error), "{error}");
            drop(ours);
            let all = reader(theirs, false)
                .join()
                .expect("a reader")
                .expect("to the end");
            assert_eq!(all.len(), transferred(&error), "after {limit} ms");
            assert!(all == pattern(3, all.len()));
        }
        // A reset, of a peer that has read some.
        let (mut ours, mut theirs) = tcp_pair();
        let peer = thread::spawn(move || {
            theirs.read_exact(&mut [0; 1_000]).expect("it was sent");
            reset(theirs);
        });
        let error = error_of(ours.sendfile(&file, 0, None).await);
        peer.join().expect("it reads");
        let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(kinds.contains(&error.kind()), "{error}");
        assert!(transferred(&error) >= 1_000, "{error}");
    });
}

#[test]
fn file_whose_sending_is_dropped_at_any_moment_leaves_nothing_behind() {
    let world = World::uring();
    let temp = Temp::file(&pattern(0, 8 << 20));
    for polls in 0..8 {
        world.run(async {
            let file = File::open(&temp).await.expect("it is there");
            let (mut ours, theirs) = tcp_pair();
            {
                let mut send = pin!(ours.sendfile(&file, 0, None));
                for _ in 0..polls {
                    let polled = send.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    assert!(polled.is_pending());
                    sleep(MS).await.expect("nobody cancels");
                }
            }
            drop(ours);
            sleep(MS).await.expect("nobody cancels");
            let all = reader(theirs, false)
                .join()
                .expect("a reader")
                .unwrap_or_default();
            assert!(all == pattern(0, all.len()), "a prefix");
        });
    }
}

/// What is written before comes before, what is written after comes after.
#[test]
fn writer_sends_files_in_their_order() {
    let world = World::uring();
    world.run(async {
        let temp = Temp::file(&pattern(0, 600_000));
        let file = File::open(&temp).await.expect("it is there");
        let (ours, theirs) = tcp_pair();
        let theirs = reader(theirs, true);
        let (_reader, mut writer) = ours.into_streams();
        let mut expected = Vec::new();
        for round in 0..5_u64 {
            let head = pattern(round as usize, 200_000 * round as usize);
            writer.write(&head);
            expected.extend(head);
            let sent = writer
                .sendfile(&file, round * 1_000, Some(250_000 + round))
                .await;
            assert_eq!(sent.expect("it is read"), 250_000 + round);
            expected.extend(pattern(1_000 * round as usize, 250_000 + round as usize));
            writer.write("between");
            expected.extend(b"between");
        }
        writer.write_eof();
        let error = error_of(writer.sendfile(&file, 0, None).await);
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        until(|| theirs.is_finished()).await;
        assert!(theirs.join().expect("a reader").expect("to the end") == expected);
    });
}

// ---- no signal ----

/// Whatever sends to a peer that has gone gives an error, and no SIGPIPE, also in a program in which
/// that would be deadly.
#[test]
fn nothing_that_sends_raises_sigpipe() {
    const CHILD: &str = "CORING_TEST_SIGPIPE";
    if std::env::var_os(CHILD).is_none() {
        let status = Command::new(std::env::current_exe().expect("it runs"))
            .args(["--exact", "nothing_that_sends_raises_sigpipe"])
            .env(CHILD, "1")
            .status()
            .expect("it starts");
        assert!(status.success(), "{status}");
        return;
    }
    // SAFETY: the default of every program that Rust has not started.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let world = World::uring();
    world.run(async {
        let temp = Temp::file(b"content");
        let file = File::open(&temp).await.expect("it is there");
        fn broken<T>(result: io::Result<T>) {
            let error = error_of(result);
            assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
        }
        let (mut one, other) = UnixStream::pair().expect("a pair");
        drop(other);
        sleep(MS).await.expect("nobody cancels");
        broken(one.write("x").await.0);
        broken(one.write_all("x").await.0);
        broken(one.write_vectored(["x", "y"]).await.0);
        broken(one.write_all_vectored(["x", "y"]).await.0);
        broken(one.sendfile(&file, 0, None).await);
        broken(one.send_msg("x", Ancillary::new()).await.0);
        let (mut back, client) = UnixStream::pair().expect("a pair");
        let mut client = client;
        client.write_all("x").await.0.expect("there is room");
        broken(copy_bidirectional(&mut back, &mut one).await);
        let (_reader, mut writer) = one.into_streams();
        broken(writer.sendfile(&file, 0, None).await);
        writer.write("x");
        broken(writer.flush().await);

        let (mut ours, theirs) = tcp_pair();
        reset(theirs);
        sleep(MS).await.expect("nobody cancels");
        let _ = ours.receive().await; // The reset.
        broken(ours.send_zc("x").await.0);
        broken(ours.send_zc_all("x").await.0);
        broken(ours.write_all_vectored(["x", "y"]).await.0);
        broken(ours.sendfile(&file, 0, None).await);
    });
}

//! A reader with a buffer: whatever comes, in whatever pieces, however reads end.
//!
//! The writer's side is in `writer.rs`, servers in `server.rs`.

#![cfg(not(miri))]

mod common;

use std::io::{self, ErrorKind, Write as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use common::*;
use coring::net::UnixStream;
use coring::{
    IncompleteRead, Lease, LimitOverrun, Stats, StreamReader, StreamWriter, create_task,
    is_cancelled, wait_for,
};

/// A reader, and the socket that it reads from. (The writer keeps the connection whole.)
fn scripted() -> (StreamReader, StdUnixStream, StreamWriter) {
    let (ours, theirs) = StdUnixStream::pair().expect("sockets");
    let (reader, writer) = UnixStream::from(ours).into_streams();
    (reader, theirs, writer)
}

/// The same over TCP, for resets.
fn over_tcp() -> (StreamReader, std::net::TcpStream, StreamWriter) {
    let (ours, theirs) = tcp_pair();
    let (reader, writer) = ours.into_streams();
    (reader, theirs, writer)
}

/// Sends a piece, and has it come as one.
async fn feed(mut theirs: &StdUnixStream, piece: &[u8]) {
    theirs.write_all(piece).expect("it is connected");
    turn().await;
}

/// Has a piece come that nobody has asked for.
async fn feed_unread(reader: &mut StreamReader, mut theirs: &StdUnixStream, piece: &[u8]) {
    let before = reader.buffer().len();
    theirs.write_all(piece).expect("it is connected");
    while reader.buffer().len() < before + piece.len() {
        reader.fill().await.expect("bytes");
    }
}

fn overrun(result: io::Result<Lease>) -> LimitOverrun {
    let error = error_of(result);
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    *LimitOverrun::of(&error).expect("an overrun")
}

fn incomplete(result: io::Result<Lease>) -> IncompleteRead {
    let error = error_of(result);
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    IncompleteRead::from_error(error).expect("an incomplete read")
}

#[track_caller]
fn assert_reset<T: std::fmt::Debug>(result: io::Result<T>) {
    let error = result.expect_err("it was reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

/// 166: `test_readline`, `_nolimit_nowait`, `_eof`, `_empty_eof`.
#[test]
fn b166_lines_come_whole_in_whatever_pieces() {
    let world = World::uring();
    world.run(async {
        let (mut reader, theirs, _writer) = scripted();
        feed_unread(&mut reader, &theirs, b"chunk1 ").await;
        let rest = async {
            for piece in [&b"chunk2 "[..], b"chunk3 ", b"\nchunk4"] {
                feed(&theirs, piece).await;
            }
        };
        let (line, ()) = futures_util::join!(reader.readline(), rest);
        assert_eq!(&line.expect("a line")[..], b"chunk1 chunk2 chunk3 \n");
        assert_eq!(reader.buffer(), b"chunk4");
        feed(&theirs, b"\nline1\n\nline3\nrest").await;
        drop(theirs);
        for expected in [&b"chunk4\n"[..], b"line1\n", b"\n", b"line3\n", b"rest"] {
            assert_eq!(&reader.readline().await.expect("a line")[..], expected);
        }
        assert!(reader.at_eof());
        for _ in 0..3 {
            assert!(reader.readline().await.expect("the end").is_empty());
        }
    });
}

/// 166: `test_readline_limit`: what is too long is dropped, with its newline if that has come.
#[test]
fn b166_line_over_the_limit_is_dropped() {
    let world = World::uring();
    world.run(async {
        let (mut reader, theirs, _writer) = scripted();
        reader.set_limit(3);
        feed_unread(&mut reader, &theirs, b"li").await;
        feed_unread(&mut reader, &theirs, b"ne1\nline2\n").await;
        let over = overrun(reader.readline().await);
        assert_eq!((over.consumed, over.found, over.limit), (5, true, 3));
        assert_eq!(reader.buffer(), b"line2\n");
        assert!(overrun(reader.readline().await).found);
        assert_eq!(reader.buffer(), b"");
        // Without a newline so far, all of it.
        feed_unread(&mut reader, &theirs, b"li").await;
        feed_unread(&mut reader, &theirs, b"ne1").await;
        let over = overrun(reader.readline().await);
        assert_eq!((over.consumed, over.found), (5, false));
        assert_eq!(reader.buffer(), b"");
        // The newline does not count.
        feed(&theirs, b"abc\nabcd\nab\n").await;
        assert_eq!(&reader.readline().await.expect("a line")[..], b"abc\n");
        assert_eq!(overrun(reader.readline().await).consumed, 4);
        assert_eq!(&reader.readline().await.expect("a line")[..], b"ab\n");
    });
}

/// 166: `test_readline_limit_with_existing_data`: a limit that is set behind what has come.
#[test]
fn b166_limit_counts_for_what_has_come_already() {
    let world = World::uring();
    world.run(async {
        let (mut reader, theirs, _writer) = scripted();
        feed_unread(&mut reader, &theirs, b"line1\nline2\n").await;
        assert_eq!(&reader.readline().await.expect("a line")[..], b"line1\n");
        reader.set_limit(2);
        assert!(overrun(reader.readline().await).found);
        reader.set_limit(9);
        feed(&theirs, b"line3\n").await;
        assert_eq!(&reader.readline().await.expect("a line")[..], b"line3\n");
    });
}

/// 166, 169: `test_readline_exception`, `test_readexactly_exception`, and of each other read:
/// an error is told again by each. asyncio tells it ahead of what had come; here that comes first.
#[test]
fn b166_b169_error_is_told_by_each_read() {
    let world = World::uring();
    world.run(async {
        let (mut reader, mut theirs, _writer) = over_tcp();
        theirs.write_all(b"line\nrest").expect("it is connected");
        while reader.buffer().len() < 9 {
            reader.fill().await.expect("bytes");
        }
        reset(theirs);
        turn().await;
        assert_eq!(&reader.readline().await.expect("a line")[..], b"line\n");
        for _ in 0..2 {
            assert_reset(reader.readline().await);
            assert_reset(reader.readuntil(b"x").await);
            assert_reset(reader.readexactly(5).await);
            assert_reset(reader.read_to_end().await);
            assert_reset(reader.fill().await.map(<[u8]>::to_vec));
        }
        assert!(!reader.at_eof(), "it did not end, it broke");
        assert_eq!(&reader.readexactly(2).await.expect("bytes")[..], b"re");
        assert_eq!(&reader.read(9).await.expect("bytes")[..], b"st");
        for _ in 0..2 {
            assert_reset(reader.read(1).await);
        }
        assert!(reader.read(0).await.expect("nothing").is_empty());
        assert!(!reader.at_eof());
    });
}

/// 167: `test_readuntil_separator`, `_multi_chunks`, `_multi_chunks_1`.
#[test]
fn b167_separators_across_pieces() {
    let world = World::uring();
    world.run(async {
        let (mut reader, theirs, _writer) = scripted();
        let read = async {
            let mut got = Vec::new();
            for _ in 0..4 {
                got.push(reader.readuntil(b"aaa").await.expect("it comes").to_vec());
            }
            got
        };
        let script = async {
            let pieces = ["lineAAA", "aa", "a", "xxa", "xxaa", "a", "aaa", "baa", "aa"];
            for piece in pieces {
                feed(&theirs, piece.as_bytes()).await;
            }
        };
        let (got, ()) = futures_util::join!(read, script);
        assert_eq!(got, [&b"lineAAAaaa"[..], b"xxaxxaaa", b"aaa", b"baaa"]);
        assert_eq!(reader.buffer(), b"a");
    });
}

#[test]
#[should_panic(expected = "a separator has at least one byte")]
fn b167_separator_of_no_bytes_is_refused() {
    let world = World::uring();
    world.run(async {
        let (mut reader, _theirs, _writer) = scripted();
        let _ = reader.readuntil(b"").await;
    });
}

#[test]
#[should_panic(expected = "readuntil needs a separator")]
fn b168_no_separators_are_refused() {
    let world = World::uring();
    world.run(async {
        let (mut reader, _theirs, _writer) = scripted();
        let _ = reader.readuntil_any(&[]).await;
    });
}

/// 167: `test_readuntil_eof`: what had come is in the error, and no more in the reader.
#[test]
fn b167_end_before_the_separator() {
    let world = World::uring();
    world.run(async {
        for pieces in [&["some data"][..], &["some", " ", "data"]] {
            let (mut reader, theirs, _writer) = scripted();
            for piece in pieces {
                feed_unread(&mut reader, &theirs, piece.as_bytes()).await;
            }
            drop(theirs);
            let error = incomplete(reader.readuntil(b"#").await);
            assert_eq!(error.partial, b"some data");
            assert_eq!(error.expected, None);
            assert!(reader.at_eof());
            assert_eq!(incomplete(reader.readuntil(b"#").await).partial, b"");
        }
    });
}

/// 167: `test_readuntil_limit_found_sep`: the data stay, for as often as it is asked.
#[test]
fn b167_separator_past_the_limit_leaves_the_data() {
    let world = World::uring();
    world.run(async {
        let (mut reader, theirs, _writer) = scripted();
        reader.set_limit(3);
        feed_unread(&mut reader, &theirs, b"some dataAA").await;
        for _ in 0..3 {
            let over = overrun(reader.readuntil(b"AAA").await);
            assert_eq!((over.consumed, over.found), (9, false));
            assert_eq!(reader.buffer(), b"some dataAA");
        }
        feed_unread(&mut reader, &theirs, b"A").await;
        for _ in 0..3 {
            let over = overrun(reader.readuntil(b"AAA").await);
            assert_eq!((over.consumed, over.found), (9, true));
            assert_eq!(reader.buffer(), b"some dataAAA");
        }
        reader.set_limit(9);
        let all = reader.readuntil(b"AAA").await.expect("within the limit");
        assert_eq!(&all[..], b"some dataAAA");
    });
}

/// 168: `test_readuntil_multi_separator`, `_limit`, `_negative_offset`.
#[test]
fn b168_whichever_separator_ends_first() {
    let world = World::uring();
    world.run(async {
        let (mut reader, theirs, _writer) = scripted();
        let until = async |reader: &mut StreamReader, separators: &[&[u8]]| {
            let got = reader.readuntil_any(separators).await;
            String::from_utf8(got.expect("it comes").to_vec()).expect("a text")
        };
        feed(&theirs, b"dataAAAdataBBBdataA\r\ndata\ndata").await;
        assert_eq!(until(&mut reader, &[b"AAA", b"BBB"]).await, "dataAAA");
        assert_eq!(until(&mut reader, &[b"AAA", b"BBB"]).await, "dataBBB");
        assert_eq!(until(&mut reader, &[b"\n", b"\r\n"]).await, "dataA\r\n");
        assert_eq!(until(&mut reader, &[b"\r\n", b"\n"]).await, "data\n");
        // One that is longer than what has come.
        assert_eq!(
            until(&mut reader, &[b"longer than it", b"ta"]).await,
            "data"
        );
        let read = until(&mut reader, &[b"AA", b"ZZZ"]);
        let script = async {
            for piece in ["da", "t", "a", "Z", "A", "ZZ", "Z", "x"] {
                feed(&theirs, piece.as_bytes()).await;
            }
        };
        let (got, ()) = futures_util::join!(read, script);
        assert_eq!(got, "dataZAZZZ");
        // The one that ends first counts for the limit.
        reader.set_limit(3);
        feed_unread(&mut reader, &theirs, b"some dataA").await;
        let over = overrun(reader.readuntil_any(&[b"AAA", b"A"]).await);
        assert_eq!((over.consumed, over.found), (10, true));
        assert_eq!(reader.buffer(), b"xsome dataA");
    });
}

/// 169: `test_readexactly`, `_zero_or_less`, `_limit`, `_eof`.
#[test]
fn b169_exactly_as_many() {
    let world = World::uring();
    world.run(async {
        let (mut reader, theirs, _writer) = scripted();
        reader.set_limit(3); // Says nothing about numbers.
        assert!(reader.readexactly(0).await.expect("nothing").is_empty());
        let read = reader.readexactly(12);
        let script = async {
            for _ in 0..3 {
                feed(&theirs, b"AAAAA").await;
            }
        };
        let (got, ()) = futures_util::join!(read, script);
        assert_eq!(&got.expect("they come")[..], b"AAAAAAAAAAAA");
        assert_eq!(
            &reader.readexactly(3).await.expect("they are here")[..],
            b"AAA"
        );
        assert_eq!(reader.buffer(), b"");
        feed(&theirs, b"some").await;
        drop(theirs);
        let error = incomplete(reader.readexactly(9).await);
        assert_eq!(
            (&error.partial[..], error.expected),
            (&b"some"[..], Some(9))
        );
        assert_eq!(reader.buffer(), b"");
        assert!(reader.at_eof());
        assert!(reader.readexactly(0).await.expect("nothing").is_empty());
        assert_eq!(incomplete(reader.readexactly(1).await).partial, b"");
    });
}

/// 170: `test_exception_waiter`, `test_exception_cancel`.
#[test]
fn b170_error_reaches_the_one_who_waits() {
    let world = World::uring();
    world.run(async {
        let (mut reader, theirs, writer) = over_tcp();
        let waiting = begun(async move {
            let first = reader.readline().await;
            (first, reader)
        })
        .await;
        turn().await;
        reset(theirs);
        let (first, reader) = waiting.await;
        assert_reset(first);
        drop((reader, writer));
        // One who was told to stop, and then the error.
        let (mut reader, theirs, _writer) = over_tcp();
        let waiting = begun(async move {
            let first = reader.readline().await;
            (first, reader)
        })
        .await;
        turn().await;
        waiting.cancel();
        let (first, mut reader) = waiting.await;
        assert!(is_cancelled(&error_of(first)));
        reset(theirs);
        turn().await;
        assert_reset(reader.readline().await);
        assert_reset(reader.readline().await);
    });
}

/// What a read of each kind gives when all has come.
const KINDS: usize = 6;
const PIECES: [&[u8]; 5] = [b"on", b"e lin", b"e#", b"\r", b"\nmore"];

async fn read_kind(reader: &mut StreamReader, kind: usize) -> io::Result<Vec<u8>> {
    match kind {
        0 => reader.readline().await.map(|lease| lease.to_vec()),
        1 => reader.readuntil(b"\r\n").await.map(|lease| lease.to_vec()),
        2 => reader
            .readuntil_any(&[b"\r\n", b"x"])
            .await
            .map(|lease| lease.to_vec()),
        3 => reader.readexactly(11).await.map(|lease| lease.to_vec()),
        4 => loop {
            let unread = reader.fill().await?;
            if unread.len() >= 11 {
                let taken = unread[..11].to_vec();
                reader.consume(11);
                return Ok(taken);
            }
        },
        _ => reader.read_to_end().await,
    }
}

/// Each kind of read, stopped in each way at each moment: the one after it gets the same bytes.
#[test]
fn read_that_is_stopped_loses_no_byte_at_any_moment() {
    let world = World::uring();
    world.run(async {
        for kind in 0..KINDS {
            for stopped_after in 0..PIECES.len() {
                for way in 0..4 {
                    let (mut reader, theirs, _writer) = scripted();
                    let told = format!("kind {kind} after {stopped_after}, way {way}");
                    let feed_first = async {
                        for piece in &PIECES[..stopped_after] {
                            feed(&theirs, piece).await;
                        }
                    };
                    match way {
                        // Dropped, while it waits.
                        0 => {
                            let mut read = Box::pin(read_kind(&mut reader, kind));
                            assert!(poll_once(&mut read).await.is_pending(), "{told}");
                            let fed = pin!(feed_first);
                            let stopped = futures_util::future::select(read, fed).await;
                            assert!(
                                matches!(stopped, futures_util::future::Either::Right(_)),
                                "{told}"
                            );
                        }
                        // Cancelled.
                        1 => {
                            let task = begun(async move {
                                let result = read_kind(&mut reader, kind).await;
                                (result, reader)
                            })
                            .await;
                            feed_first.await;
                            task.cancel();
                            let result;
                            (result, reader) = task.await;
                            assert!(is_cancelled(&error_of(result)), "{told}");
                        }
                        // Timed out.
                        2 => {
                            let read =
                                async { wait_for(read_kind(&mut reader, kind), 30 * MS).await };
                            let (result, ()) = futures_util::join!(read, feed_first);
                            assert!(is_time_out(&error_of(result)), "{told}");
                        }
                        // Not even begun.
                        _ => {
                            feed_first.await;
                            for _ in 0..3 {
                                let read = read_kind(&mut reader, kind);
                                let result = wait_for(read, Duration::ZERO).await;
                                assert!(is_time_out(&error_of(result)), "{told}");
                            }
                        }
                    }
                    for piece in &PIECES[stopped_after..] {
                        (&theirs).write_all(piece).expect("it is connected");
                    }
                    if kind == 5 {
                        drop(theirs);
                    }
                    let got = read_kind(&mut reader, kind).await.expect("it has come");
                    let expected: &[u8] = if kind == 5 {
                        b"one line#\r\nmore"
                    } else {
                        b"one line#\r\n"
                    };
                    assert_eq!(got, expected, "{told}");
                }
            }
        }
    });
}

/// Where a separator ends that a read of `separators` may give.
fn model_end(separators: &[&[u8]], bytes: &[u8]) -> Option<(usize, usize)> {
    (0..=bytes.len()).find_map(|end| {
        let ends_here = |separator: &&&[u8]| bytes[..end].ends_with(separator);
        let longest = separators.iter().filter(ends_here).map(|s| s.len()).max()?;
        Some((end - longest, end))
    })
}

/// Random texts in random pieces, random reads that end in random ways, against a model that knows
/// the whole text.
#[test]
fn random_reads_agree_with_a_model() {
    const SEPARATORS: [&[&[u8]]; 5] = [
        &[b"\n"],
        &[b"\r\n"],
        &[b"\n", b"\r\n"],
        &[b"aab", b"ba", b"\r\n\r\n"],
        &[b"abababab"],
    ];
    let world = World::uring();
    for seed in 0..30 {
        world.run(async {
            let mut random = fastrand::Rng::with_seed(seed);
            let alphabet: &[u8] = if seed % 2 == 0 {
                b"ab\r\n"
            } else {
                b"abcdefghijklmnopq\n\r\xff\x80\0"
            };
            let total = if seed % 5 == 0 { 400_000 } else { 30_000 };
            let text: Vec<u8> = (0..total)
                .map(|_| alphabet[random.usize(..alphabet.len())])
                .collect();
            let (mut reader, mut theirs, _writer) = scripted();
            let limit = [20, 200, 64 * 1024][random.usize(..3)];
            reader.set_limit(limit);
            let sender = {
                let text = text.clone();
                thread::spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed + 1_000);
                    let mut rest = &text[..];
                    while !rest.is_empty() {
                        let most = [8, 300, 20_000][random.usize(..3)];
                        let n = random.usize(1..most).min(rest.len());
                        theirs.write_all(&rest[..n]).expect("it is connected");
                        rest = &rest[n..];
                        if random.u8(..16) == 0 {
                            thread::yield_now();
                        }
                    }
                })
            };
            let mut at = 0;
            let mut ended = 0;
            while ended < 3 {
                let told = format!("seed {seed} at {at}");
                let rest = &text[at..];
                let span = Duration::from_micros(random.u64(..200));
                let way = random.u8(..4);
                let what = random.u8(..6);
                let n = random.usize(..300);
                let separators = SEPARATORS[random.usize(..SEPARATORS.len())];
                let unread = reader.buffer().to_vec();
                let read = async {
                    match what {
                        0 => reader.read(n).await,
                        1 => reader.readexactly(n).await,
                        2 => reader.readline().await,
                        3 => reader.fill().await.map(|_| Lease::empty()),
                        _ => reader.readuntil_any(separators).await,
                    }
                };
                let result = match way {
                    0 => wait_for(read, span).await,
                    1 => {
                        let mut read = pin!(read);
                        match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                            Poll::Ready(result) => result,
                            Poll::Pending => Err(coring::TimedOut::default().into()),
                        }
                    }
                    _ => read.await,
                };
                let got = match result {
                    Ok(got) => got,
                    Err(error) if is_time_out(&error) => {
                        // What was unread still is, and more may be.
                        assert!(reader.buffer().starts_with(&unread), "{told}");
                        assert!(rest.starts_with(reader.buffer()), "{told}");
                        continue;
                    }
                    Err(error) if let Some(over) = LimitOverrun::of(&error).copied() => {
                        let separators = if what == 2 { &[&b"\n"[..]] } else { separators };
                        assert_eq!(over.limit, limit);
                        assert!(over.consumed > limit, "{told}");
                        let end = model_end(separators, rest);
                        assert!(end.is_none_or(|(begin, _)| begin > limit), "{told}");
                        if over.found {
                            assert_eq!(end.map(|end| end.0), Some(over.consumed), "{told}");
                        }
                        if what != 2 {
                            assert!(reader.buffer().len() >= over.consumed, "{told}");
                            assert!(rest.starts_with(reader.buffer()), "{told}");
                            let skip = 1 + random.usize(..over.consumed);
                            reader.consume(skip);
                            at += skip;
                        } else if over.found {
                            at += over.consumed + 1;
                        } else {
                            // It has not said how much that was: what comes next does.
                            assert!(reader.buffer().is_empty(), "{told}");
                            let next = reader.read_to_end().await.expect("the rest");
                            assert!(text.ends_with(&next), "{told}");
                            assert!(text.len() - next.len() >= at + over.consumed, "{told}");
                            at = text.len();
                        }
                        continue;
                    }
                    Err(error) => {
                        let error = IncompleteRead::from_error(error).expect("the end");
                        assert_eq!(error.partial, rest, "{told}");
                        at = text.len();
                        ended += 1;
                        continue;
                    }
                };
                assert!(rest.starts_with(&got), "{told}: {what}");
                match what {
                    0 => assert!(got.len() <= n, "{told}"),
                    1 => assert_eq!(got.len(), n, "{told}"),
                    2 => {
                        let end = model_end(&[b"\n"], rest).map_or(rest.len(), |end| end.1);
                        assert_eq!(got.len(), end, "{told}");
                    }
                    3 => assert!(rest.starts_with(reader.buffer()), "{told}"),
                    _ => assert_eq!(Some(got.len()), model_end(separators, rest).map(|e| e.1)),
                }
                at += got.len();
                if reader.at_eof() {
                    assert_eq!(at, text.len(), "{told}");
                    ended += 1;
                }
            }
            sender.join().expect("it has sent");
        });
    }
}

/// A peer that sends a line without an end: what is kept of it is bounded, and the peer finds the
/// window closed.
#[test]
fn line_without_an_end_is_bounded() {
    let world = World::uring();
    world.run(async {
        let (mut reader, mut theirs, _writer) = scripted();
        theirs.set_nonblocking(true).expect("a socket");
        let limit = 64 * 1024;
        let line = create_task(async move {
            let over = overrun(reader.readuntil(b"\n").await);
            assert!(!over.found);
            reader
        });
        let mut sent = 0;
        let mut blocked = 0;
        while blocked < 20 {
            match theirs.write(&[b'x'; 10_000]) {
                Ok(n) => (sent, blocked) = (sent + n, 0),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    blocked += 1;
                }
            }
            turn().await;
        }
        let mut reader = line.await;
        let held = reader.buffer().len();
        assert!(held > limit, "{held}");
        assert!(held <= limit + (1 << 20), "{held} bytes are held");
        assert!(sent < 2 << 20, "{sent} bytes were taken");
        assert_eq!(Stats::current().in_flight, 0, "paused");
        // Asked again it takes no more.
        for _ in 0..50 {
            overrun(reader.readuntil(b"\n").await);
            assert_eq!(reader.buffer().len(), held);
        }
        turn().await;
        assert_eq!(Stats::current().in_flight, 0, "paused");
    });
}

/// The same with `readline`, which drops what has come: it goes on, and never keeps more.
#[test]
fn readline_gets_past_a_line_of_many_megabytes() {
    let world = World::uring();
    world.run(async {
        let (mut reader, mut theirs, _writer) = scripted();
        let sender = thread::spawn(move || {
            for _ in 0..64 {
                theirs.write_all(&[b'x'; 500_000]).expect("it is connected");
            }
            theirs.write_all(b"\nnext\n").expect("it is connected");
        });
        let mut overruns = 0;
        let line = loop {
            match reader.readline().await {
                Ok(line) => break line,
                Err(error) => {
                    let over = LimitOverrun::of(&error).expect("too long");
                    assert!(over.consumed <= 64 * 1024 + (1 << 20), "{over:?}");
                    overruns += 1;
                }
            }
        };
        assert!(overruns > 1);
        assert!(line.ends_with(b"\n"));
        if line.starts_with(b"x") || line.len() == 1 {
            // The end of the long one, which is not too long by itself.
            let next = reader.readline().await.expect("a line");
            assert_eq!(&next[..], b"next\n");
        }
        sender.join().expect("it has sent");
    });
}

/// A length that a peer claims is not believed: nothing is set aside for it.
#[test]
fn lengths_that_lie() {
    let world = World::uring();
    world.run(async {
        for claimed in [1 << 30, u32::MAX as usize] {
            let (mut reader, theirs, _writer) = scripted();
            feed(&theirs, b"not as many").await;
            drop(theirs);
            let error = incomplete(reader.readexactly(claimed).await);
            assert_eq!(error.partial, b"not as many");
            assert_eq!(error.expected, Some(claimed));
        }
        // More than a lease can hold: told before anything is read.
        for claimed in [1 << 32, usize::MAX] {
            let (mut reader, theirs, _writer) = scripted();
            feed(&theirs, b"abc").await;
            let error = error_of(reader.readexactly(claimed).await);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(&reader.readexactly(3).await.expect("unread")[..], b"abc");
        }
        let (mut reader, theirs, _writer) = scripted();
        feed(&theirs, b"abc").await;
        assert_eq!(&reader.read(usize::MAX).await.expect("bytes")[..], b"abc");
    });
}

#[test]
fn bytes_that_are_no_text_pass_through() {
    let world = World::uring();
    world.run(async {
        let (mut reader, theirs, mut writer) = scripted();
        let all: Vec<u8> = (0..=255).collect();
        feed(&theirs, &all).await;
        feed(&theirs, b"\xc3\x28\xa0\xff\n").await;
        let line = reader.readline().await.expect("a line");
        assert_eq!(&line[..], &all[..=10]);
        assert_eq!(
            &reader.readexactly(245).await.expect("bytes")[..],
            &all[11..]
        );
        let line = reader.readline().await.expect("a line");
        assert_eq!(&line[..], b"\xc3\x28\xa0\xff\n");
        writer.write(line);
        writer.flush().await.expect("it is connected");
        let mut back = [0; 5];
        io::Read::read_exact(&mut (&theirs), &mut back).expect("it has come");
        assert_eq!(&back, b"\xc3\x28\xa0\xff\n");
    });
}

/// What was received before the streams were made belongs to them.
#[test]
fn streams_begin_with_what_has_come() {
    let world = World::uring();
    world.run(async {
        let (ours, theirs) = StdUnixStream::pair().expect("sockets");
        let mut ours = UnixStream::from(ours);
        feed(&theirs, b"head:body").await;
        assert_eq!(ours.read(Vec::with_capacity(5)).await.1, b"head:");
        feed(&theirs, b" and\nmore").await;
        let (mut reader, _writer) = ours.into_streams();
        assert_eq!(&reader.readline().await.expect("a line")[..], b"body and\n");
        assert_eq!(&reader.read(99).await.expect("bytes")[..], b"more");
    });
}

#[test]
fn unread_bytes_can_be_worked_with_in_place() {
    let world = World::uring();
    world.run(async {
        let (mut reader, theirs, _writer) = scripted();
        feed_unread(&mut reader, &theirs, b"abc").await;
        reader.consume(0);
        reader.consume(2);
        feed_unread(&mut reader, &theirs, b"defg").await;
        assert_eq!(reader.buffer(), b"cdefg");
        reader.consume(1);
        assert_eq!(&reader.read(2).await.expect("bytes")[..], b"de");
        feed_unread(&mut reader, &theirs, b"hi").await;
        assert_eq!(reader.buffer(), b"fghi");
        reader.consume(4);
        assert_eq!(reader.buffer(), b"");
        drop(theirs);
        for _ in 0..3 {
            assert_eq!(reader.fill().await.expect("the end"), b"");
        }
        assert!(reader.read_to_end().await.expect("the end").is_empty());
    });
}

#[test]
#[should_panic(expected = "5 bytes of 4")]
fn more_than_there_is_cannot_be_consumed() {
    let world = World::uring();
    world.run(async {
        let (mut reader, theirs, _writer) = scripted();
        feed_unread(&mut reader, &theirs, b"ab").await;
        feed_unread(&mut reader, &theirs, b"cd").await;
        reader.consume(5);
    });
}

/// What is told of an end behind a cancelled `read_to_end`: what had come is still there.
#[test]
fn read_to_end_that_is_stopped_at_the_end_keeps_all() {
    let world = World::uring();
    world.run(async {
        let (mut reader, theirs, _writer) = scripted();
        feed_unread(&mut reader, &theirs, b"ab").await;
        feed_unread(&mut reader, &theirs, b"cd").await;
        drop(theirs);
        assert_eq!(reader.fill().await.expect("the end"), b"abcd");
        let result = wait_for(reader.read_to_end(), Duration::ZERO).await;
        assert!(is_time_out(&error_of(result)));
        assert_eq!(reader.read_to_end().await.expect("all"), b"abcd");
    });
}

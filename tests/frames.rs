//! Frames with a length before them: in any pieces, cut off, and with lengths that lie.

#![cfg(not(miri))]

mod common;

use std::io::ErrorKind;

use common::*;
use coring::net::UnixStream;
use coring::streams::IncompleteRead;
use coring::{Stats, StreamReader, create_task, sleep, wait_for};

fn pair() -> (StreamReader, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("descriptors");
    (ours.into_streams().0, theirs)
}

fn frame(n: usize) -> Vec<u8> {
    let body = (0..n).map(|i| (i * 7) as u8);
    (n as u32).to_be_bytes().into_iter().chain(body).collect()
}

#[test]
fn frames_come_in_any_pieces() {
    let world = World::uring();
    world.run(async {
        for piece in [1, 3, 5, 1_000, 70_000] {
            let (mut reader, mut theirs) = pair();
            let lengths = [0, 1, 4, 300, 0, 200_000, 7];
            let sender = create_task(async move {
                let all: Vec<u8> = lengths.into_iter().flat_map(frame).collect();
                // The small ones in small pieces.
                let small = all.len().min(if piece < 1_000 { 400 } else { all.len() });
                for part in all[..small]
                    .chunks(piece)
                    .chain(all[small..].chunks(50_000))
                {
                    theirs.write_all(part.to_vec()).await.0.expect("it reads");
                }
            });
            for n in lengths {
                let got = reader.read_frame(1 << 20).await.expect("a frame");
                assert_eq!(got.expect("one more")[..], frame(n)[4..]);
            }
            assert!(reader.read_frame(1 << 20).await.expect("the end").is_none());
            sender.await;
        }
    });
}

#[test]
fn frame_that_is_cut_off_says_what_came() {
    let world = World::uring();
    world.run(async {
        for cut in [1, 4, 5, 103] {
            let (mut reader, mut theirs) = pair();
            theirs
                .write_all(frame(100)[..cut].to_vec())
                .await
                .0
                .expect("there is room");
            drop(theirs);
            let error = reader.read_frame(1 << 20).await.expect_err("it is cut off");
            let incomplete = IncompleteRead::of(&error).expect("it says so");
            assert_eq!(incomplete.partial, frame(100)[..cut]);
        }
    });
}

/// Memory is for what has come, and a frame that is too long is told before it comes.
#[test]
fn length_that_lies_costs_nothing() {
    let world = World::uring();
    world.run(async {
        let (mut reader, mut theirs) = pair();
        theirs.write_all(&[0xff; 8]).await.0.expect("there is room");
        for _ in 0..2 {
            let error = error_of(reader.read_frame(1 << 20).await);
            assert_eq!(error.kind(), ErrorKind::InvalidData);
        }
        assert_eq!(reader.buffer(), [0xff; 8], "it is still unread");
        let (mut reader, mut theirs) = pair();
        theirs
            .write_all(&[0x7f, 0xff, 0xff, 0xff])
            .await
            .0
            .expect("there is room");
        let limited = wait_for(reader.read_frame(usize::MAX), 5 * MS).await;
        assert!(is_time_out(&limited.expect_err("no more comes")));
        assert_eq!(reader.buffer().len(), 4);
        assert!(Stats::current().buffers.total <= 8);
    });
}

#[test]
fn frame_that_is_waited_for_in_vain_is_not_lost() {
    let world = World::uring();
    world.run(async {
        let (mut reader, mut theirs) = pair();
        let bytes = frame(50);
        for part in bytes.chunks(9) {
            let limited = wait_for(reader.read_frame(100), MS).await;
            assert!(is_time_out(&limited.expect_err("it is not whole")));
            theirs
                .write_all(part.to_vec())
                .await
                .0
                .expect("there is room");
            sleep(MS).await.expect("nobody cancels");
        }
        let got = reader.read_frame(100).await.expect("a frame");
        assert_eq!(got.expect("it is whole")[..], bytes[4..]);
    });
}

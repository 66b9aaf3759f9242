//! `fs::copy`, against std's.

#![cfg(not(miri))]

mod common;

use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use common::*;
use coring::fs::copy;
use coring::wait_for;

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").mode() & 0o7777
}

#[test]
fn copy_of_any_length_is_the_same() {
    let world = World::uring();
    world.run(async {
        for len in [0, 1, 4_095, 262_143, 262_144, 262_145, 10 << 20] {
            let data: Vec<u8> = (0..len).map(|i| (i * 31 + i / 251) as u8).collect();
            let (from, to) = (Temp::file(&data), Temp::new());
            assert_eq!(copy(&*from, &*to).await.expect("a file"), len as u64);
            assert!(to.content() == data, "{len} bytes");
            assert!(from.content() == data, "{len} bytes");
        }
    });
}

#[test]
fn copy_to_a_longer_file_empties_it_first() {
    let world = World::uring();
    world.run(async {
        let (from, to) = (Temp::file(b"short"), Temp::file(&[7; 100_000]));
        assert_eq!(copy(&*from, &*to).await.expect("a file"), 5);
        assert_eq!(to.content(), b"short");
        let from = Temp::file(b"");
        assert_eq!(copy(&*from, &*to).await.expect("a file"), 0);
        assert_eq!(to.content(), b"");
    });
}

#[test]
fn copy_of_a_file_to_itself_is_invalid_input_and_harmless() {
    let world = World::uring();
    let directory = Temp::directory();
    let file = directory.join("file");
    let (hard, soft) = (directory.join("hard"), directory.join("soft"));
    std::fs::write(&file, b"content").expect("a directory");
    std::fs::hard_link(&file, &hard).expect("a directory");
    std::os::unix::fs::symlink(&file, &soft).expect("a directory");
    world.run(async {
        for to in [&file, &hard, &soft, &directory.join("./file")] {
            for (from, to) in [(&file, to), (to, &file)] {
                let error = error_of(copy(from, to).await);
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{from:?} to {to:?}");
                assert!(error.to_string().contains("one file"), "{error}");
                assert_eq!(std::fs::read(&file).expect("it is there"), b"content");
            }
        }
    });
}

#[test]
fn copy_of_directories_is_an_error() {
    let world = World::uring();
    let (directory, file, to) = (Temp::directory(), Temp::file(b"kept"), Temp::new());
    world.run(async {
        let error = error_of(copy(&*directory, &*to).await);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("directory"), "{error}");
        assert!(!to.exists(), "nothing was made");
        let error = error_of(copy(&*file, &*directory).await);
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
        assert_eq!(file.content(), b"kept");
    });
}

#[test]
fn copy_of_what_is_missing_makes_nothing() {
    let world = World::uring();
    let (missing, to, from) = (Temp::new(), Temp::new(), Temp::file(b"x"));
    world.run(async {
        let error = error_of(copy(&*missing, &*to).await);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!to.exists());
        let error = error_of(copy(&*from, missing.join("file")).await);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = error_of(copy(&*from, "with\0nul").await);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

/// As std's: whatever the umask, and whether the target is new or not.
#[test]
fn copy_keeps_the_permissions() {
    let world = World::uring();
    world.run(async {
        for mode in [0o600, 0o640, 0o666, 0o777, 0o444, 0o755] {
            for there in [false, true] {
                let from = Temp::file(b"content");
                let make = || {
                    if there {
                        Temp::file(b"old")
                    } else {
                        Temp::new()
                    }
                };
                let (ours, theirs) = (make(), make());
                let permissions = std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(&*from, permissions).expect("our file");
                copy(&*from, &*ours).await.expect("a file");
                std::fs::copy(&*from, &*theirs).expect("a file");
                assert_eq!(ours.content(), b"content");
                assert_eq!(mode_of(&ours), mode_of(&theirs), "{mode:o}, there: {there}");
                assert_eq!(mode_of(&ours), mode);
            }
        }
    });
}

#[test]
fn copy_of_a_sparse_file_has_its_holes_as_zeros() {
    let world = World::uring();
    let (from, to) = (Temp::new(), Temp::new());
    let file = std::fs::File::create(&*from).expect("our file");
    file.write_all_at(b"end", 5 << 20).expect("our file");
    world.run(async {
        assert_eq!(copy(&*from, &*to).await.expect("a file"), (5 << 20) + 3);
        assert!(to.content() == from.content());
    });
}

/// A length of zero does not mean that there is nothing.
#[test]
fn copy_of_a_file_of_proc_has_its_content() {
    let world = World::uring();
    let to = Temp::new();
    world.run(async {
        let bytes = copy("/proc/self/cmdline", &*to).await.expect("it is there");
        assert_eq!(
            to.content(),
            std::fs::read("/proc/self/cmdline").expect("it is there")
        );
        assert!(bytes > 0);
    });
}

#[test]
fn copy_to_a_full_disk_is_storage_full() {
    let world = World::uring();
    let from = Temp::file(&[7; 500_000]);
    world.run(async {
        let error = error_of(copy(&*from, "/dev/full").await);
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(
            copy(&*from, "/dev/null").await.expect("it takes anything"),
            500_000
        );
    });
}

#[test]
fn copy_that_times_out_has_written_a_prefix() {
    let world = World::uring();
    let data: Vec<u8> = (0..64 << 20).map(|i| (i / 7) as u8).collect();
    let (from, to) = (Temp::file(&data), Temp::new());
    world.run(async {
        let copied = wait_for(copy(&*from, &*to), Duration::from_millis(3)).await;
        match copied {
            Ok(bytes) => assert_eq!(bytes, data.len() as u64),
            Err(error) => assert!(is_time_out(&error), "{error:?}"),
        }
        let written = if to.exists() {
            to.content()
        } else {
            Vec::new()
        };
        assert!(data.starts_with(&written), "{} bytes", written.len());
        // Nothing goes on behind the caller's back.
        let zero = wait_for(copy(&*from, &*to), Duration::ZERO).await;
        assert!(is_time_out(&error_of(zero)));
    });
}

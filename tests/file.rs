//! Files, against std's.

#![cfg(not(miri))]

mod common;

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use common::*;
use coring::fs::{File, OpenOptions};
use coring::{
    BufResult, IoBuf, Partial, TRANSFER_MAX, create_task, is_timed_out, now, sleep, timeout,
    wait_for, yield_now,
};
use futures_util::future::join_all;

async fn rw(path: impl AsRef<Path>) -> File {
    let mut how = OpenOptions::new();
    how.read(true).write(true).create(true);
    how.open(path).await.expect("it can be opened")
}

/// What a combination of options does to a file: the error's kind, or its content afterwards.
type Outcome = Result<Option<Vec<u8>>, ErrorKind>;

fn outcome_of<T>(opened: io::Result<T>, path: &Path) -> Outcome {
    opened
        .map(|_| std::fs::read(path).ok())
        .map_err(|error| error.kind())
}

/// All combinations, on a file that is there and on one that is not.
#[test]
fn open_options_do_what_stds_do() {
    let world = World::uring();
    world.run(async {
        for bits in 0..64_u32 {
            let on = |bit: u32| bits & (1 << bit) != 0;
            for there in [false, true] {
                let make = || {
                    if there {
                        Temp::file(b"old")
                    } else {
                        Temp::new()
                    }
                };
                let (ours, theirs) = (make(), make());
                let mut how = OpenOptions::new();
                how.read(on(0)).write(on(1)).append(on(2));
                how.truncate(on(3)).create(on(4)).create_new(on(5));
                let mut std_how = std::fs::OpenOptions::new();
                std_how.read(on(0)).write(on(1)).append(on(2));
                std_how.truncate(on(3)).create(on(4)).create_new(on(5));
                assert_eq!(
                    outcome_of(how.open(&*ours).await, &ours),
                    outcome_of(std_how.open(&*theirs), &theirs),
                    "{how:?}, there: {there}"
                );
            }
        }
    });
}

#[test]
fn open_options_that_contradict_each_other_are_invalid_input() {
    let world = World::uring();
    let temp = Temp::file(b"kept");
    world.run(async {
        let cases: [fn(&mut OpenOptions) -> &mut OpenOptions; 4] = [
            |how| how,
            |how| how.read(true).truncate(true),
            |how| how.read(true).create(true),
            |how| how.append(true).truncate(true),
        ];
        for case in cases {
            let error = error_of(case(&mut OpenOptions::new()).open(&*temp).await);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with("a file"), "{error}");
        }
        assert_eq!(temp.content(), b"kept");
    });
}

#[test]
fn open_gives_the_kernels_errors() {
    let world = World::uring();
    let directory = Temp::directory();
    let (file, link) = (directory.join("file"), directory.join("link"));
    let ring = directory.join("ring");
    std::fs::write(&file, b"x").expect("a directory");
    std::os::unix::fs::symlink(&file, &link).expect("a directory");
    std::os::unix::fs::symlink(&ring, &ring).expect("a directory");
    world.run(async {
        let errno = async |path: &Path| error_of(File::open(path).await).raw_os_error();
        assert_eq!(errno(&directory.join("missing")).await, Some(libc::ENOENT));
        assert_eq!(errno(&directory.join("no/such")).await, Some(libc::ENOENT));
        assert_eq!(errno(Path::new("")).await, Some(libc::ENOENT));
        assert_eq!(errno(&file.join("child")).await, Some(libc::ENOTDIR));
        assert_eq!(errno(&ring).await, Some(libc::ELOOP));
        assert_eq!(
            errno(&directory.join("x".repeat(300))).await,
            Some(libc::ENAMETOOLONG)
        );
        let mut how = OpenOptions::new();
        let nofollow = how
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&link)
            .await;
        assert_eq!(error_of(nofollow).raw_os_error(), Some(libc::ELOOP));
        let created = File::create(&*directory).await;
        assert_eq!(error_of(created).kind(), ErrorKind::IsADirectory);
        let new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&file)
            .await;
        assert_eq!(error_of(new).kind(), ErrorKind::AlreadyExists);
        let text = file.to_str().expect("ASCII").to_owned() + "\0.txt";
        let error = error_of(File::open(text).await);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("NUL"), "{error}");
    });
}

#[test]
fn directory_opens_but_does_not_read() {
    let world = World::uring();
    let directory = Temp::directory();
    world.run(async {
        let opened = File::open(&*directory).await.expect("a directory opens");
        assert!(opened.metadata().await.expect("it has some").is_dir());
        let BufResult(n, buf) = opened.read_at(Vec::with_capacity(9), 0).await;
        assert_eq!(error_of(n).kind(), ErrorKind::IsADirectory);
        assert_eq!(buf.capacity(), 9);
    });
}

/// On a thread that gives up root's rights, for itself alone.
#[test]
fn file_that_may_not_be_read_is_permission_denied() {
    let world = World::uring();
    let temp = Temp::file(b"secret");
    let secret = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(&*temp, secret).expect("our file");
    // SAFETY: no memory is involved; of this thread alone, and set back below.
    let before = unsafe { libc::syscall(libc::SYS_setfsuid, 65_534) };
    world.run(async {
        let error = error_of(File::open(&*temp).await);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let error = error_of(OpenOptions::new().write(true).open(&*temp).await);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    });
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_setfsuid, before) };
}

#[test]
fn reads_and_writes_have_positions_of_their_own() {
    let world = World::uring();
    let temp = Temp::new();
    world.run(async {
        let file = rw(&*temp).await;
        let BufResult(n, buf) = file.write_at("hello world", 0).await;
        assert_eq!((n.expect("a file"), buf), (11, "hello world"));
        file.write_all_at("HELLO", 0).await.0.expect("a file");
        let BufResult(n, buf) = file.read_at(Vec::with_capacity(5), 3).await;
        assert_eq!((n.expect("a file"), &buf[..]), (5, &b"LO wo"[..]));
        let BufResult(n, buf) = file.read_at(buf, 9).await;
        assert_eq!((n.expect("a file"), &buf[..]), (2, &b"ld"[..]));
        let BufResult(read, buf) = file.read_exact_at(Vec::with_capacity(11), 0).await;
        read.expect("all of it");
        assert_eq!(buf, b"HELLO world");
        // Past the end a hole is made.
        file.write_all_at(vec![b'!'].slice(..), 20)
            .await
            .0
            .expect("a file");
        assert_eq!(file.metadata().await.expect("a file").len(), 21);
        assert_eq!(temp.content(), b"HELLO world\0\0\0\0\0\0\0\0\0!");
    });
}

#[test]
fn read_past_the_end_is_zero_and_exact_reads_say_how_much_there_was() {
    let world = World::uring();
    let temp = Temp::file(b"hello");
    world.run(async {
        let file = File::open(&*temp).await.expect("it is there");
        for offset in [5, 6, 1 << 40, i64::MAX as u64 - 9] {
            let BufResult(n, buf) = file.read_at(Vec::with_capacity(9), offset).await;
            assert_eq!((n.expect("the end"), buf.len()), (0, 0), "{offset}");
        }
        let BufResult(read, buf) = file.read_exact_at(Vec::with_capacity(9), 2).await;
        let error = error_of(read);
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        let partial = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Partial>());
        assert_eq!(partial.expect("a part").transferred, 3);
        assert_eq!(buf, b"llo");
        let BufResult(read, _) = file.read_exact_at(buf, 5).await;
        let error = error_of(read);
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert!(error.get_ref().is_none_or(|inner| !inner.is::<Partial>()));
    });
}

/// To the kernel the last one would mean "where the file is", wherever that is.
#[test]
fn offsets_that_no_file_has_are_invalid_input_as_stds() {
    let world = World::uring();
    let temp = Temp::file(b"hello");
    world.run(async {
        let file = rw(&*temp).await;
        let std = std::fs::File::open(&*temp).expect("it is there");
        for offset in [i64::MAX as u64 + 1, u64::MAX - 1, u64::MAX] {
            let kind = std
                .read_at(&mut [0; 4], offset)
                .expect_err("no offset")
                .kind();
            assert_eq!(kind, ErrorKind::InvalidInput);
            let BufResult(n, buf) = file.read_at(Vec::with_capacity(4), offset).await;
            assert_eq!((error_of(n).kind(), buf.capacity()), (kind, 4), "{offset}");
            let BufResult(read, _) = file.read_exact_at(buf, offset).await;
            assert_eq!(error_of(read).kind(), kind, "{offset}");
            let BufResult(n, buf) = file.write_at("lost", offset).await;
            assert_eq!((error_of(n).kind(), buf), (kind, "lost"), "{offset}");
            let BufResult(written, _) = file.write_all_at(buf, offset).await;
            assert_eq!(error_of(written).kind(), kind, "{offset}");
        }
        assert_eq!(temp.content(), b"hello");
    });
}

#[test]
fn write_to_a_full_disk_is_storage_full_and_the_buffer_comes_back() {
    let world = World::uring();
    world.run(async {
        let full = OpenOptions::new().write(true).open("/dev/full").await;
        let full = full.expect("the device is there");
        let data = vec![7_u8; 100_000];
        let block = data.as_ptr();
        let BufResult(written, data) = full.write_all_at(data, 0).await;
        let error = error_of(written);
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "the kernel's own");
        assert!(data.as_ptr() == block && data == vec![7; 100_000]);
        let BufResult(n, data) = full.write_at(data, 0).await;
        assert_eq!(
            (error_of(n).kind(), data.len()),
            (ErrorKind::StorageFull, 100_000)
        );
    });
}

/// A file that may not grow: what fits is written, and counted.
#[test]
fn write_that_fails_in_the_middle_says_how_much_was_written() {
    let world = World::uring();
    let temp = Temp::new();
    world.run(async {
        let file = rw(&*temp).await;
        // The largest offset that there is ends the transfer after four bytes.
        let offset = i64::MAX as u64 - 4;
        let theirs = std::fs::File::create(&*temp).expect("it is there");
        let std = theirs
            .write_all_at(b"too long", offset)
            .expect_err("there is no room");
        let BufResult(written, buf) = file.write_all_at("too long", offset).await;
        assert_eq!(error_of(written).kind(), std.kind());
        assert_eq!(buf, "too long");
    });
}

#[test]
fn zero_length_buffers_transfer_nothing() {
    let world = World::uring();
    let temp = Temp::file(b"hello");
    world.run(async {
        let file = rw(&*temp).await;
        assert_eq!(file.read_at(Vec::new(), 0).await.0.expect("nothing"), 0);
        file.read_exact_at(Vec::new(), 0).await.0.expect("nothing");
        assert_eq!(file.write_at("", 3).await.0.expect("nothing"), 0);
        file.write_all_at(Vec::new(), 9).await.0.expect("nothing");
        let empty: Box<[u8]> = Box::default();
        assert_eq!(file.read_at(empty, 0).await.0.expect("nothing"), 0);
        assert_eq!(temp.content(), b"hello");
    });
}

/// One call of the kernel's takes no more than `TRANSFER_MAX`; whole transfers go on from there.
/// The memory is never touched but by the read.
#[test]
fn buffers_beyond_2_gib_are_clamped() {
    const BYTES: usize = 3 << 30;
    let world = World::uring();
    world.run(async {
        let null = OpenOptions::new().write(true).open("/dev/null").await;
        let null = null.expect("the device is there");
        let data = vec![0_u8; BYTES]; // Zeroed pages, none of them there yet.
        let BufResult(n, data) = null.write_at(data, 0).await;
        assert_eq!(n.expect("it takes anything"), TRANSFER_MAX);
        let BufResult(written, data) = null.write_all_at(data, 0).await;
        written.expect("it takes anything");
        let BufResult(written, data) = null.write_all_at(data.slice(5..), 0).await;
        written.expect("it takes anything");
        drop(data);
        let zero = File::open("/dev/zero").await.expect("the device is there");
        let BufResult(n, buf) = zero.read_at(Vec::with_capacity(BYTES), 0).await;
        // This device stops where the thread has something else to do.
        let n = n.expect("it gives anything");
        assert!(0 < n && n <= TRANSFER_MAX, "{n}");
        assert_eq!((buf.len(), buf.capacity(), buf[n - 1]), (n, BYTES, 0));
        drop(buf);
        // Whole reads go on where one stopped.
        let BufResult(read, buf) = zero.read_exact_at(Vec::with_capacity(64 << 20), 0).await;
        read.expect("it gives anything");
        assert_eq!(buf.len(), 64 << 20);
    });
}

#[test]
fn append_writes_at_the_end_wherever_it_is_told_to() {
    let world = World::uring();
    let temp = Temp::file(b"one");
    world.run(async {
        let log = OpenOptions::new()
            .append(true)
            .open(&*temp)
            .await
            .expect("it is there");
        log.write_all_at(" two", 0).await.0.expect("a file");
        std::fs::write(&*temp, b"new").expect("it is there");
        log.write_all_at(" three", 1 << 40).await.0.expect("a file");
        assert_eq!(temp.content(), b"new three");
        let BufResult(n, _) = log.read_at(Vec::with_capacity(9), 0).await;
        assert_eq!(error_of(n).raw_os_error(), Some(libc::EBADF));
    });
}

#[test]
fn create_and_mode_do_what_stds_do() {
    let world = World::uring();
    world.run(async {
        for mode in [0o600, 0o644, 0o755, 0o777, 0o400] {
            let (ours, theirs) = (Temp::new(), Temp::new());
            let mut how = OpenOptions::new();
            drop(
                how.write(true)
                    .create(true)
                    .mode(mode)
                    .open(&*ours)
                    .await
                    .expect("a file"),
            );
            let mut how = std::fs::OpenOptions::new();
            drop(
                how.write(true)
                    .create(true)
                    .truncate(false)
                    .mode(mode)
                    .open(&*theirs)
                    .expect("one"),
            );
            let mode_of = |path: &Path| std::fs::metadata(path).expect("it is there").mode();
            assert_eq!(mode_of(&ours), mode_of(&theirs), "{mode:o}");
        }
        let temp = Temp::file(b"old content");
        let file = File::create(&*temp).await.expect("it is emptied");
        assert_eq!(temp.content(), b"");
        file.write_all_at("new", 0).await.0.expect("a file");
        assert_eq!(temp.content(), b"new");
    });
}

#[test]
fn sync_all_and_sync_data_reach_the_disk() {
    let world = World::uring();
    let temp = Temp::new();
    world.run(async {
        let file = rw(&*temp).await;
        file.write_all_at(vec![7_u8; 100_000], 0)
            .await
            .0
            .expect("a file");
        file.sync_data().await.expect("a file");
        file.sync_all().await.expect("a file");
        File::open("/tmp")
            .await
            .expect("a directory")
            .sync_all()
            .await
            .expect("it can");
        let null = File::open("/dev/null").await.expect("the device is there");
        assert_eq!(
            error_of(null.sync_all().await).raw_os_error(),
            Some(libc::EINVAL)
        );
        assert_eq!(
            error_of(null.sync_data().await).raw_os_error(),
            Some(libc::EINVAL)
        );
    });
}

#[test]
fn metadata_is_what_std_says() {
    let world = World::uring();
    let temp = Temp::file(&[7; 12_345]);
    let directory = Temp::directory();
    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(&*temp, mode).expect("our file");
    world.run(async {
        for path in [
            &*temp,
            &*directory,
            Path::new("/dev/null"),
            Path::new("/proc/self/stat"),
        ] {
            let ours = File::open(path)
                .await
                .expect("it is there")
                .metadata()
                .await;
            let (ours, std) = (ours.expect("any file"), std::fs::metadata(path));
            let std = std.expect("it is there");
            assert_eq!(ours.len(), std.len(), "{path:?}");
            assert_eq!(ours.is_file(), std.is_file(), "{path:?}");
            assert_eq!(ours.is_dir(), std.is_dir(), "{path:?}");
            assert_eq!(ours.mode(), std.mode(), "{path:?}");
            assert_eq!(ours.dev_ino(), (std.dev(), std.ino()), "{path:?}");
            if !std.file_type().is_char_device() && path != Path::new("/proc/self/stat") {
                assert_eq!(
                    ours.modified(),
                    std.modified().expect("it has one"),
                    "{path:?}"
                );
            }
        }
        // Times before 1970, too.
        let file = std::fs::File::options()
            .write(true)
            .open(&*temp)
            .expect("our file");
        let early = std::time::UNIX_EPOCH - Duration::new(100, 250_000_000);
        file.set_modified(early).expect("our file");
        let ours = File::from(file).metadata().await.expect("a file");
        assert_eq!(ours.modified(), early);
        assert!(!format!("{ours:?}").is_empty());
    });
}

#[test]
fn files_of_std_and_descriptors_are_taken_over() {
    let world = World::uring();
    let temp = Temp::file(b"hello");
    world.run(async {
        let file = File::from(std::fs::File::open(&*temp).expect("it is there"));
        assert_eq!(file.read_at(Vec::with_capacity(9), 1).await.1, b"ello");
        let fd: OwnedFd = std::fs::File::open(&*temp).expect("it is there").into();
        let file = File::from(fd);
        assert_eq!(file.read_at(Vec::with_capacity(9), 2).await.1, b"llo");
        assert!(format!("{file:?}").starts_with("File"));
    });
}

#[test]
fn many_reads_of_one_file_at_once_give_each_its_part() {
    let world = World::uring();
    let data: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let temp = Temp::file(&data);
    world.run(async {
        let file = File::open(&*temp).await.expect("it is there");
        let reads = (0..256_u64).map(|i| file.read_exact_at(Vec::with_capacity(4096), i * 4096));
        for (i, BufResult(read, buf)) in join_all(reads).await.into_iter().enumerate() {
            read.expect("all of it");
            assert!(buf == data[i * 4096..][..4096], "part {i}");
        }
    });
}

/// A read that waits in the kernel (on a pipe) and its limit; then its descriptor.
#[test]
fn read_of_a_pipe_that_times_out_or_is_dropped_gives_everything_back() {
    let world = World::uring();
    world.run(async {
        let fds = open_fds();
        let (reader, writer) = io::pipe().expect("a pipe");
        let file = File::from(OwnedFd::from(reader));
        let BufResult(n, buf) = wait_for(file.read_at(Vec::with_capacity(9), 0), 5 * MS).await;
        assert!(is_time_out(&error_of(n)));
        assert_eq!(buf.capacity(), 9);
        {
            let mut read = Box::pin(file.read_at(buf, 0));
            assert!(poll_once(&mut read).await.is_pending());
            yield_now().await.expect("nobody cancels");
        }
        // Until it is cancelled it would take what comes.
        sleep(MS).await.expect("nobody cancels");
        io::Write::write_all(&mut &writer, b"late").expect("it is open");
        assert_eq!(file.read_at(Vec::with_capacity(9), 0).await.1, b"late");
        let task = create_task(async move { file.read_at(Vec::with_capacity(9), 0).await.0 });
        assert!(is_time_out(&error_of(wait_for(task, 5 * MS).await)));
        drop(writer);
        until(|| open_fds() == fds).await;
    });
}

/// An open that makes files is done by a worker thread of the kernel, and that of a FIFO without a
/// reader waits there: a timeout linked behind it is not heard (M), so the scope's own ends it.
#[test]
fn open_that_waits_in_a_worker_thread_ends_at_its_limit() {
    let world = World::uring();
    let fifo = Temp::new();
    let made = std::process::Command::new("mkfifo").arg(&*fifo).status();
    assert!(made.expect("mkfifo is there").success());
    world.run(async {
        for _ in 0..3 {
            let begin = now();
            let error = wait_for(File::create(&*fifo), Duration::from_millis(20)).await;
            let error = error.expect_err("nobody reads it");
            assert!(is_timed_out(&error), "{error:?}");
            assert!(now() - begin >= Duration::from_millis(20), "early");
        }
        let limited = timeout(Duration::from_millis(20), File::create(&*fifo)).await;
        assert!(limited.is_err(), "nobody reads it");
        // With a reader it is done within its limit.
        let mut reader = std::process::Command::new("cat")
            .arg(&*fifo)
            .spawn()
            .expect("cat");
        let file = wait_for(File::create(&*fifo), PATIENCE)
            .await
            .expect("it is read");
        drop(file);
        assert!(reader.wait().expect("cat ends").success());
    });
}

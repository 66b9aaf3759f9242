//! What safe code can do to buffers that are lent, and buffers that are made to be a nuisance.

mod common;

use std::cell::Cell;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;

use common::*;
use coring::fs::File;
use coring::net::TcpStream;
use coring::{
    BufResult, IoBuf, IoBufMut, Slice, create_task, sleep, submit, timeout, wait_for, yield_now,
};

fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

#[test]
fn slice_bounds_are_checked_however_they_are_given() {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let len = |range: (std::ops::Bound<usize>, std::ops::Bound<usize>)| {
        vec![1_u8, 2, 3, 4].slice(range).len()
    };
    assert_eq!(len((Unbounded, Unbounded)), 4);
    assert_eq!(len((Included(1), Included(2))), 2);
    assert_eq!(len((Excluded(1), Excluded(3))), 1);
    assert_eq!(len((Included(4), Unbounded)), 0);
    assert_eq!(len((Unbounded, Included(usize::MAX))), 4);
    assert_eq!(len((Unbounded, Excluded(usize::MAX))), 4);
    assert_eq!(len((Included(0), Excluded(0))), 0);
    assert!(panics(|| drop(vec![1_u8].slice(2..))));
    assert!(panics(|| drop(
        vec![1_u8].slice((Excluded(usize::MAX), Unbounded))
    )));
    assert!(panics(|| drop(vec![1_u8].slice(usize::MAX..))));
    assert!(panics(|| drop(String::from("text").slice(5..9))));
    #[expect(clippy::reversed_empty_ranges, reason = "it must be refused")]
    let reversed = panics(|| drop(vec![1_u8, 2, 3].slice(2..1)));
    assert!(reversed);
    // Room that is not initialised yet may be in a window, but not before it.
    assert_eq!(Vec::<u8>::with_capacity(8).slice(0..8).bytes_total(), 8);
    assert!(panics(|| drop(Vec::<u8>::with_capacity(8).slice(1..8))));
}

#[test]
fn nested_slices_stay_within_each_other() {
    let slice = vec![0_u8, 1, 2, 3, 4, 5, 6, 7]
        .slice(2..6)
        .slice(1..100)
        .slice(..=1);
    assert_eq!(&*slice, [3, 4]);
    assert_eq!((slice.bytes_init(), slice.bytes_total()), (2, 2));
    assert_eq!(&**slice.get_ref(), [3, 4, 5]);
    assert_eq!(slice.into_inner().into_inner().into_inner().len(), 8);
    let empty = Vec::new().slice(..).slice(0..0).slice(..);
    assert_eq!(
        (empty.bytes_init(), empty.bytes_total(), empty.len()),
        (0, 0, 0)
    );
    let text = String::from("hello").slice(1..).slice(..3);
    assert_eq!(&*text, b"ell");
    assert_eq!(&*"static".slice(3..), b"tic");
    let mut boxed = vec![1_u8, 2, 3].into_boxed_slice().slice(1..);
    boxed.copy_from_slice(&[8, 9]);
    assert_eq!(*boxed.into_inner(), [1, 8, 9]);
    let mut spare = Vec::with_capacity(100);
    spare.push(7_u8);
    let mut window = spare.slice(1..).slice(..10);
    assert_eq!((window.bytes_init(), window.bytes_total()), (0, 10));
    assert!(window.is_empty(), "what is not initialised is not seen");
    window.fill(0);
}

/// Deep nests, and the kernel at the bottom of them.
#[cfg(not(miri))]
#[test]
fn nested_slices_are_read_into_and_written_from() {
    let world = World::uring();
    let temp = Temp::file(b"0123456789");
    world.run(async {
        let file = File::open(&*temp).await.expect("it is there");
        let mut buf = Vec::with_capacity(16);
        buf.extend_from_slice(b"ab");
        let window = buf.slice(1..).slice(1..9).slice(..4);
        let BufResult(n, window) = file.read_at(window, 3).await;
        assert_eq!(n.expect("a file"), 4);
        assert_eq!(&*window, b"3456");
        assert_eq!(window.into_inner().into_inner().into_inner(), b"ab3456");
        let BufResult(read, window) = file.read_exact_at(vec![0; 8].slice(2..4), 0).await;
        read.expect("a file");
        assert_eq!(&*window, b"01");
    });
}

/// As into a Vec itself, so that the window is what was read, and no more. A boxed slice has no
/// length to set.
#[cfg(not(miri))]
#[test]
fn read_into_a_window_of_a_vec_ends_it_behind_what_was_read() {
    let world = World::uring();
    let temp = Temp::file(b"0123456789");
    world.run(async {
        let file = File::open(&*temp).await.expect("it is there");
        let BufResult(n, window) = file.read_at(b"abcdefgh".to_vec().slice(2..5), 8).await;
        assert_eq!((n.expect("a file"), &*window), (2, &b"89"[..]));
        assert_eq!(window.into_inner(), b"ab89");
        let boxed: Box<[u8]> = Box::from(&b"abcdefgh"[..]);
        let BufResult(n, window) = file.read_at(boxed.slice(2..5), 8).await;
        assert_eq!((n.expect("a file"), &*window), (2, &b"89e"[..]));
        assert_eq!(*window.into_inner(), *b"ab89efgh");
    });
}

#[cfg(not(miri))]
#[test]
fn read_into_a_vec_sets_its_length_from_its_start() {
    let world = World::uring();
    let temp = Temp::file(b"0123456789");
    world.run(async {
        let file = File::open(&*temp).await.expect("it is there");
        let BufResult(n, buf) = file.read_at(vec![b'x'; 20], 6).await;
        assert_eq!((n.expect("a file"), &buf[..]), (4, &b"6789"[..]));
        let BufResult(n, buf) = file.read_at(buf, 99).await;
        assert_eq!((n.expect("the end"), buf.len(), buf.capacity()), (0, 0, 20));
        // An error leaves it as it was.
        let closed = wait_for(file.read_at(vec![b'x'; 5], 0), std::time::Duration::ZERO).await;
        assert!(closed.0.is_err());
        assert_eq!(closed.1, b"xxxxx");
    });
}

/// A buffer whose drop panics, and is counted.
struct Grenade {
    bytes: Vec<u8>,
    armed: bool,
    drops: Drops,
}

impl Grenade {
    fn new(armed: bool, drops: &Drops) -> Self {
        Self {
            bytes: vec![7; 9],
            armed,
            drops: drops.clone(),
        }
    }
}

impl Drop for Grenade {
    fn drop(&mut self) {
        drop(self.drops.guard());
        assert!(
            !self.armed || std::thread::panicking(),
            "on purpose: a buffer's drop"
        );
    }
}

// SAFETY: the Vec's heap block, which is its own and stays where it is.
unsafe impl IoBuf for Grenade {
    fn stable_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Grenade {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    fn bytes_total(&self) -> usize {
        self.bytes.len()
    }

    unsafe fn set_init(&mut self, _: usize) {}
}

each_driver! {
    /// The future is gone, the operation ends, and the buffer goes off in the loop's hands (R10).
    fn buffer_whose_drop_panics_in_the_loop_harms_nobody(world) {
        let (reader, writer) = world.pipe();
        let drops = Drops::default();
        world.run(async {
            for _ in 0..3 {
                let mut lent = submit(Read(reader, Grenade::new(true, &drops)));
                assert!(poll_once(&mut lent).await.is_pending());
                drop(lent);
            }
            until(|| drops.count() == 3).await;
            write(writer, b"alive").await.expect("the pipe is open");
            let BufResult(n, buf) = read(reader, 9).await;
            assert_eq!((n.expect("the loop goes on"), &buf[..]), (5, &b"alive"[..]));
        });
    }

    fn buffer_whose_drop_panics_in_a_task_is_that_tasks_panic(world) {
        let (reader, writer) = world.pipe();
        let drops = Drops::default();
        world.run(async {
            let lent = Grenade::new(true, &drops);
            let task = create_task(async move {
                let BufResult(n, lent) = submit(Read(reader, lent)).await;
                drop(lent);
                n
            });
            yield_now().await.expect("nobody cancels");
            write(writer, b"x").await.expect("the pipe is open");
            let caught = futures_util::FutureExt::catch_unwind(AssertUnwindSafe(task)).await;
            assert!(caught.is_err());
            assert_eq!(drops.count(), 1);
        });
    }

    fn buffers_are_dropped_once_whenever_their_future_goes(world) {
        let (reader, writer) = world.pipe();
        let drops = Drops::default();
        world.run(async {
            let lend = || submit(Read(reader, Grenade::new(false, &drops)));
            drop(lend()); // Never lent.
            assert_eq!(drops.count(), 1);
            let mut lent = lend();
            assert!(poll_once(&mut lent).await.is_pending());
            drop(lent); // Lent.
            until(|| drops.count() == 2).await;
            let late = timeout(world.short(1), lend()).await;
            assert_eq!(drops.count(), 2, "it is in the result");
            drop(late);
            assert_eq!(drops.count(), 3);
            let mut lent = lend();
            assert!(poll_once(&mut lent).await.is_pending());
            write(writer, b"x").await.expect("the pipe is open");
            sleep(world.short(1)).await.expect("nobody cancels");
            drop(lent); // Completed, not fetched.
            assert_eq!(drops.count(), 4);
            write(writer, b"x").await.expect("the pipe is open");
            let BufResult(n, back) = lend().await;
            assert_eq!(n.expect("it is there"), 1);
            assert_eq!(drops.count(), 4);
            drop(back);
            assert_eq!(drops.count(), 5);
        });
    }
}

/// Whole transfers over buffers of somebody else's making: short reads into windows.
#[cfg(not(miri))]
#[test]
fn read_exact_into_a_foreign_buffer_fills_it() {
    let world = World::uring();
    let drops = Drops::default();
    world.run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let mut ours = TcpStream::connect(addr).await.expect("it listens");
        let (mut theirs, _) = listener.accept().expect("it has come");
        theirs.set_nodelay(true).expect("a TCP socket");
        let writer = std::thread::spawn(move || {
            for byte in b"123456789" {
                theirs.write_all(&[*byte]).expect("it is connected");
                std::thread::yield_now();
            }
            theirs
        });
        let BufResult(read, buf) = ours.read_exact(Grenade::new(false, &drops)).await;
        read.expect("all of it comes");
        assert_eq!(buf.bytes, b"123456789");
        drop(writer.join().expect("it only writes"));
    });
    assert_eq!(drops.count(), 1);
}

/// What is shared is read from, and comes back to its owners.
#[cfg(not(miri))]
#[test]
fn writes_of_shared_blocks_leave_them_to_their_owners() {
    let world = World::uring();
    let temp = Temp::new();
    let shared: Rc<[u8]> = Rc::from(&b"shared"[..]);
    world.run(async {
        let file = File::create(&*temp).await.expect("a directory");
        let BufResult(written, back) = file.write_all_at(shared.clone(), 0).await;
        written.expect("a file");
        assert!(Rc::ptr_eq(&back, &shared));
        let window: Slice<Rc<[u8]>> = shared.clone().slice(2..4);
        file.write_all_at(window, 0).await.0.expect("a file");
        assert_eq!(temp.content(), b"arared");
    });
    assert_eq!(Rc::strong_count(&shared), 1);
}

/// The address of what is lent is that of what comes back, wherever futures are moved meanwhile.
#[cfg(not(miri))]
#[test]
fn buffer_keeps_its_address_while_its_future_moves() {
    let world = World::uring();
    world.run(async {
        let (reader, writer) = world.pipe();
        let buf = Vec::with_capacity(100);
        let address = buf.as_ptr();
        let mut lent = submit(Read(reader, buf));
        assert!(poll_once(&mut lent).await.is_pending());
        let moved = Box::new(Cell::new(Some(lent)));
        let mut moved_again = moved.take().expect("it was put there");
        assert!(matches!(poll_once(&mut moved_again).await, Poll::Pending));
        let task = create_task(moved_again);
        write(writer, b"moved").await.expect("the pipe is open");
        let BufResult(n, buf) = task.await;
        assert_eq!(n.expect("it is there"), 5);
        assert!(buf.as_ptr() == address && buf == b"moved");
    });
}

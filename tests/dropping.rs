//! Every future of coring's dropped at every moment (C9), and tasks in the middle of polls and drops:
//! nothing is left in flight, no slot, no scope, no descriptor, and the program goes on.

mod common;

use std::any::Any;
use std::cell::RefCell;
use std::future::pending;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::*;
use coring::fs::{File, OpenOptions, copy};
use coring::net::{TcpListener, TcpStream};
use coring::{
    BufResult, Handle, Task, all_tasks, create_task, interval, now, ok, sleep, sleep_until,
    timeout, timeout_at, wait_for, yield_now,
};

/// A waker of somebody else's, which only says that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

thread_local! {
    /// A waker may go to other threads, what it ends here may not.
    static ENDED_BY_WAKER: RefCell<Option<Task<DropGuard>>> = const { RefCell::new(None) };
}

/// A waker that aborts a task, or detaches it, while it is called or dropped.
struct Ends {
    aborts: bool,
}

impl Wake for Ends {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Ends {
    fn drop(&mut self) {
        let task = ENDED_BY_WAKER.take().expect("it was put there");
        if self.aborts {
            task.abort();
        }
    }
}

/// Polls once with a waker of its own, and waits until that is woken.
async fn start_and_let_complete<F: Future>(mut future: Pin<&mut F>) {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
    if polled.is_pending() {
        until(|| woken.0.load(Ordering::Acquire)).await;
    }
}

/// Drops what `$make` gives: before its first poll, after it, when the loop has handed it over,
/// and (if it completes) when it has completed and was not polled again.
macro_rules! drop_at_each_moment {
    ($make:expr) => {
        drop_at_each_moment!(@start $make);
        start_and_let_complete(pin!($make)).await;
    };
    (never ends: $make:expr) => {
        drop_at_each_moment!(@start $make);
    };
    (@start $make:expr) => {
        drop($make);
        {
            let mut future = Box::pin($make);
            let _ = poll_once(&mut future).await;
        }
        {
            let mut future = Box::pin($make);
            let polled = poll_once(&mut future).await;
            if polled.is_pending() {
                yield_now().await.expect("nobody cancels");
            }
        }
    };
}

async fn pair() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let ours = TcpStream::connect(addr).await.expect("it listens");
    (ours, listener.accept().expect("it has come").0)
}

each_driver! {
    fn futures_of_time_leave_nothing(world) {
        world.run(async {
            let span = world.short(1);
            drop_at_each_moment!(sleep(span));
            drop_at_each_moment!(sleep(Duration::ZERO));
            drop_at_each_moment!(never ends: sleep(Duration::MAX));
            drop_at_each_moment!(sleep_until(now() + span));
            let mut ticks = interval(span);
            drop_at_each_moment!(ticks.tick());
            drop_at_each_moment!(yield_now());
        });
    }

    fn futures_with_limits_leave_nothing(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let span = world.short(1);
            drop_at_each_moment!(wait_for(sleep(span), PATIENCE));
            drop_at_each_moment!(wait_for(sleep(Duration::MAX), span));
            drop_at_each_moment!(wait_for(read(reader, 9), span));
            drop_at_each_moment!(never ends: wait_for(read(reader, 9), Duration::MAX));
            drop_at_each_moment!(timeout(span, read(reader, 9)));
            drop_at_each_moment!(timeout(span, pending::<()>()));
            drop_at_each_moment!(timeout_at(now() + span, sleep(Duration::MAX)));
            drop_at_each_moment!(timeout(span * 2, timeout(span, sleep(span * 3))));
            sleep(span).await.expect("nobody cancels");
            write(writer, b"still").await.expect("the pipe is open");
            assert_eq!(read(reader, 9).await.0.expect("nothing was taken"), 5);
        });
    }

    fn futures_of_tasks_leave_nothing(world) {
        world.run(async {
            let span = world.short(1);
            drop_at_each_moment!(create_task(async { 7 }));
            drop_at_each_moment!(create_task(sleep(span)));
            drop_at_each_moment!(wait_for(create_task(sleep(span)), PATIENCE));
            drop_at_each_moment!(Handle::current().spawn(|| async { 7 }));
            // They belong to the runtime, and go on without their handles.
            let begin = now();
            while all_tasks().len() > 1 {
                sleep(span).await.expect("nobody cancels");
                assert!(now() - begin < PATIENCE + span * 20);
            }
        });
    }

    fn futures_of_operations_leave_nothing(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            drop_at_each_moment!(never ends: read(reader, 9));
            sleep(world.short(1)).await.expect("nobody cancels"); // They are cancelled.
            write(writer, b"x").await.expect("the pipe is open");
            start_and_let_complete(pin!(read(reader, 9))).await;
            drop_at_each_moment!(write(writer, b"y"));
        });
    }

    fn task_that_lets_go_of_itself_in_its_poll_is_dropped_with_its_output(world) {
        let ways: [fn(Task<DropGuard>); 3] = [
            Task::abort,
            drop,
            |own| {
                let unwinds = AssertUnwindSafe(|| {
                    let _own = own;
                    panic!("past the handle");
                });
                catch_unwind(unwinds).expect_err("it panicked");
            },
        ];
        world.run(async {
            for let_go in ways {
                for waits in [false, true] {
                    let drops = Drops::default();
                    let (guard, output) = (drops.guard(), drops.guard());
                    let own: Rc<RefCell<Option<Task<DropGuard>>>> = Rc::default();
                    let handle = own.clone();
                    let task = create_task(async move {
                        let _guard = guard;
                        let_go(handle.take().expect("it was put there"));
                        if waits {
                            yield_now().await.expect("nobody cancels");
                        }
                        output
                    });
                    own.replace(Some(task));
                    until(|| all_tasks().len() == 1).await;
                    assert_eq!(drops.count(), 2);
                }
            }
        });
    }

    fn output_that_holds_the_last_handle_of_another_takes_that_along(world) {
        world.run(async {
            let drops = Drops::default();
            let mut last: Option<Task<Box<dyn Any>>> = None;
            for n in 0..6 {
                let (guard, before) = (drops.guard(), last.take());
                last = Some(create_task(async move {
                    if n % 2 == 0 {
                        yield_now().await.expect("nobody cancels");
                    }
                    Box::new((guard, before)) as Box<dyn Any>
                }));
            }
            yield_now().await.expect("nobody cancels");
            drop(last); // Every second one has an output by now.
            until(|| all_tasks().len() == 1).await;
            assert_eq!(drops.count(), 6);
        });
    }

    fn waker_that_ends_the_task_that_it_waits_for_drops_it_once(world) {
        world.run(async {
            for (aborts, panics) in [(false, false), (true, false), (false, true), (true, true)] {
                let drops = Drops::default();
                let guard = drops.guard();
                let mut task = create_task(async move {
                    yield_now().await.expect("nobody cancels");
                    assert!(!panics, "of its own");
                    guard
                });
                let waker = Waker::from(Arc::new(Ends { aborts }));
                let polled = Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
                ENDED_BY_WAKER.set(Some(task));
                drop(waker);
                until(|| all_tasks().len() == 1).await;
                assert_eq!(drops.count(), 1);
                assert!(ENDED_BY_WAKER.take().is_none(), "the waker was dropped");
            }
        });
    }

    fn tasks_that_abort_each_other_in_their_drops_are_all_dropped(world) {
        world.run(async {
            let tasks: Rc<RefCell<Vec<Task<()>>>> = Rc::default();
            for _ in 0..5 {
                let others = tasks.clone();
                let next = move || others.borrow_mut().pop();
                let task = begun(async move {
                    let _aborts = OnDrop(move || {
                        while let Some(other) = next() {
                            other.abort();
                        }
                    });
                    pending::<()>().await;
                })
                .await;
                tasks.borrow_mut().push(task);
            }
            let last = tasks.borrow_mut().pop();
            last.expect("there are five").abort();
            assert_eq!(all_tasks().len(), 1);
        });
    }

    fn c10_panic_in_the_drop_of_a_task_that_is_aborted_is_its_own(world) {
        world.run(async {
            let task = begun(async {
                let _bomb = OnDrop(|| panic!("a bomb"));
                pending::<()>().await;
            });
            task.await.abort();
            assert_eq!(all_tasks().len(), 1);
            yield_now().await.expect("the loop goes on");
        });
    }
}

#[cfg(not(miri))]
#[test]
fn futures_of_a_stream_leave_nothing() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair().await;
        let room = || Vec::with_capacity(64);
        drop_at_each_moment!(never ends: ours.read(room()));
        drop_at_each_moment!(never ends: ours.read_exact(room()));
        sleep(5 * MS).await.expect("nobody cancels"); // They are cancelled.
        theirs.write_all(b"lost").expect("it is connected");
        start_and_let_complete(pin!(ours.read(room()))).await;
        theirs.write_all(b"lost").expect("it is connected");
        start_and_let_complete(pin!(ours.read_exact(room()))).await;
        drop_at_each_moment!(ours.write("x"));
        drop_at_each_moment!(ours.write_all("x"));
        drop_at_each_moment!(wait_for(ours.write_all("x"), PATIENCE));
        // More than there is room for: the kernel has them when they are dropped.
        while timeout(5 * MS, ours.write(vec![7_u8; 1 << 20]))
            .await
            .is_ok()
        {}
        drop_at_each_moment!(never ends: ours.write(vec![7_u8; 1 << 20]));
        drop_at_each_moment!(never ends: ours.write_all(vec![7_u8; 1 << 20]));
        let (mut reader, mut writer) = ours.into_split();
        drop_at_each_moment!(never ends: reader.read(room()));
        drop_at_each_moment!(never ends: reader.read_exact(room()));
        drop_at_each_moment!(never ends: writer.write(vec![7_u8; 1 << 20]));
        drop_at_each_moment!(never ends: writer.write_all(vec![7_u8; 1 << 20]));
        drop_at_each_moment!(writer.shutdown());
        let mut ours = reader.reunite(writer).expect("two halves of one");
        drop_at_each_moment!(ours.shutdown(Shutdown::Both));
        drop(ours);
        let peer = std::thread::spawn(move || std::io::copy(&mut theirs, &mut std::io::sink()));
        until(|| peer.is_finished()).await;
        peer.join().expect("it reads").expect("to the end");
    });
}

#[cfg(not(miri))]
#[test]
fn futures_that_connect_and_accept_leave_nothing() {
    let world = World::uring();
    world.run(async {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        drop_at_each_moment!(never ends: listener.accept());
        drop_at_each_moment!(TcpStream::connect(addr));
        drop_at_each_moment!(wait_for(TcpStream::connect(addr), PATIENCE));
        // Those have come, and each goes to one that asks.
        drop_at_each_moment!(listener.accept());
        drop_at_each_moment!(wait_for(listener.accept(), 5 * MS));
        let mut client = std::net::TcpStream::connect(addr).expect("it listens");
        let wanted = client.local_addr().expect("it is connected");
        let serve = async {
            loop {
                let (stream, peer) = listener.accept().await?;
                if peer == wanted {
                    return ok(stream);
                }
            }
        };
        let mut server = wait_for(serve, PATIENCE).await.expect("it has come");
        client.write_all(b"hello").expect("it is connected");
        assert_eq!(server.read(Vec::with_capacity(9)).await.1, b"hello");
    });
}

#[cfg(not(miri))]
#[test]
fn futures_of_files_leave_nothing() {
    let world = World::uring();
    let (temp, other) = (Temp::file(&[7; 1 << 20]), Temp::new());
    world.run(async {
        let room = || Vec::with_capacity(1 << 20);
        drop_at_each_moment!(File::open(&*temp));
        drop_at_each_moment!(File::open("/no/such/file"));
        drop_at_each_moment!(File::create(&*other));
        let mut how = OpenOptions::new();
        how.read(true).write(true);
        drop_at_each_moment!(how.open(&*temp));
        let file = how.open(&*temp).await.expect("it is there");
        drop_at_each_moment!(file.read_at(room(), 0));
        drop_at_each_moment!(file.read_exact_at(room(), 0));
        drop_at_each_moment!(file.write_at(vec![7; 4096], 0));
        drop_at_each_moment!(file.write_all_at(vec![7; 4096], 0));
        drop_at_each_moment!(file.sync_all());
        drop_at_each_moment!(file.sync_data());
        drop_at_each_moment!(file.metadata());
        drop_at_each_moment!(copy(&*temp, &*other));
        drop_at_each_moment!(wait_for(copy(&*temp, &*other), PATIENCE));
        assert_eq!(file.metadata().await.expect("a file").len(), 1 << 20);
    });
    assert!(temp.content() == [7; 1 << 20]);
}

#[cfg(not(miri))]
#[test]
fn stream_whose_read_is_dropped_with_its_task_is_closed() {
    let world = World::uring();
    world.run(async {
        let (mut ours, mut theirs) = pair().await;
        let task = create_task(async move {
            let BufResult(n, _) = ours.read(Vec::with_capacity(9)).await;
            n
        });
        yield_now().await.expect("nobody cancels");
        assert!(is_time_out(&error_of(wait_for(task, 5 * MS).await)));
        let peer = std::thread::spawn(move || theirs.read(&mut [0; 9]));
        until(|| peer.is_finished()).await;
        assert_eq!(peer.join().expect("it reads").expect("the end"), 0);
    });
}

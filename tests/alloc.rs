//! What allocates, counted: nothing that is done for each request.

#![cfg(not(miri))]

mod common;
mod counting;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::Duration;

use common::*;
use coring::fs::{File, OpenOptions};
use coring::net::{TcpListener, TcpStream, UdpSocket};
use coring::{
    BufResult, IoBuf, Timers, create_task, interval, sleep, timeout, to_thread, wait_for, yield_now,
};
use counting::{Counting, allocations};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Enough for slabs and queues to have all the room that they need.
const WARM_UP: usize = 500;
const ROUNDS: usize = 1_000;

/// Allocations of `ROUNDS` rounds, after as many as warm up.
async fn allocations_of(mut round: impl AsyncFnMut()) -> u64 {
    for _ in 0..WARM_UP {
        round().await;
    }
    let before = allocations();
    for _ in 0..ROUNDS {
        round().await;
    }
    allocations() - before
}

/// A server's end of a connection to a std client, which sends 64 bytes and waits for them again,
/// until the server hangs up.
async fn with_client(serve: impl AsyncFnOnce(TcpStream)) {
    let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let client = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(addr).expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let mut answer = [0; 64];
        while stream.write_all(&[7; 64]).is_ok() && stream.read_exact(&mut answer).is_ok() {
            assert_eq!(answer, [7; 64]);
        }
    });
    let (stream, _) = listener.accept().await.expect("the client comes");
    serve(stream).await;
    // Not on this thread: the connection is closed when the loop turns.
    let ended = to_thread(move |_| client.join()).await;
    ended
        .expect("nobody cancels")
        .expect("the client is content");
}

#[test]
fn echo_of_a_request_allocates_nothing() {
    let world = World::uring();
    world.run(with_client(async |mut stream| {
        let mut kept = Some(Vec::with_capacity(1024));
        let count = allocations_of(async || {
            let buf = kept.take().expect("it came back");
            let BufResult(n, buf) = stream.read(buf).await;
            assert_eq!(n.expect("the client writes"), 64);
            let BufResult(written, buf) = stream.write_all(buf).await;
            written.expect("the client reads");
            kept = Some(buf);
        });
        assert_eq!(count.await, 0);
    }));
}

#[test]
fn echo_with_exact_reads_and_slices_allocates_nothing() {
    let world = World::uring();
    world.run(with_client(async |stream| {
        let (mut reader, mut writer) = stream.into_split();
        let mut kept = Some(Vec::with_capacity(64));
        let count = allocations_of(async || {
            let buf = kept.take().expect("it came back");
            let BufResult(read, buf) = reader.read_exact(buf).await;
            read.expect("the client writes");
            let BufResult(written, buf) = writer.write_all(buf.slice(..)).await;
            written.expect("the client reads");
            kept = Some(buf.into_inner());
        });
        assert_eq!(count.await, 0);
    }));
}

#[test]
fn wait_for_and_timeout_of_reads_allocate_nothing() {
    let world = World::uring();
    world.run(with_client(async |mut stream| {
        let mut kept = Some(Vec::with_capacity(1024));
        let count = allocations_of(async || {
            let buf = kept.take().expect("it came back");
            let BufResult(n, buf) = wait_for(stream.read(buf), PATIENCE).await;
            assert_eq!(n.expect("in time"), 64);
            let written = timeout(PATIENCE, wait_for(stream.write_all(buf), PATIENCE)).await;
            let BufResult(written, buf) = written.expect("in time");
            written.expect("the client reads");
            kept = Some(buf);
        });
        assert_eq!(count.await, 0);
    }));
}

#[test]
fn sleep_allocates_nothing() {
    let world = World::uring();
    for mode in [Timers::Auto, Timers::Kernel, Timers::Heap] {
        let mut runner = world.builder().timers(mode).build().expect("it was built");
        let span = Duration::from_micros(50);
        let count = runner.run(allocations_of(async || {
            sleep(span).await.expect("nobody cancels");
        }));
        assert_eq!(count, 0, "{mode:?}");
        finish(runner);
    }
}

#[test]
fn sleeps_of_many_tasks_allocate_nothing() {
    let world = World::uring();
    for mode in [Timers::Auto, Timers::Kernel, Timers::Heap] {
        let mut runner = world.builder().timers(mode).build().expect("it was built");
        runner.run(async {
            let sleepers: Vec<_> = (0..200)
                .map(|i| {
                    create_task(async move {
                        for _ in 0..20 {
                            sleep(Duration::from_micros(50 + i)).await?;
                        }
                        // All of them are here at once, and have what they need.
                        sleep(Duration::from_millis(100)).await?;
                        let before = allocations();
                        for _ in 0..20 {
                            sleep(Duration::from_micros(50 + i)).await?;
                        }
                        coring::ok(allocations() - before)
                    })
                })
                .collect();
            for sleeper in sleepers {
                assert_eq!(sleeper.await.expect("nobody cancels"), 0, "{mode:?}");
            }
        });
        finish(runner);
    }
}

#[test]
fn tick_of_an_interval_allocates_nothing() {
    let world = World::uring();
    world.run(async {
        let mut ticks = interval(Duration::from_micros(50));
        let count = allocations_of(async || {
            ticks.tick().await.expect("nobody cancels");
        });
        assert_eq!(count.await, 0);
    });
}

#[test]
fn timeout_of_what_is_ready_allocates_nothing() {
    let world = World::uring();
    world.run(async {
        let count = allocations_of(async || {
            assert_eq!(timeout(PATIENCE, async { 7 }).await, Ok(7));
            let value = wait_for(async { coring::ok(7) }, PATIENCE).await;
            assert_eq!(value.expect("in time"), 7);
        });
        assert_eq!(count.await, 0);
    });
}

#[test]
fn timeout_of_what_yields_allocates_nothing() {
    let world = World::uring();
    world.run(async {
        let count = allocations_of(async || {
            let yielded = timeout(PATIENCE, wait_for(yield_now(), PATIENCE)).await;
            yielded.expect("in time").expect("in time");
        });
        assert_eq!(count.await, 0);
    });
}

/// Those that expire: one list of what is to be told.
#[test]
fn timeout_that_drops_its_future_allocates_once() {
    let world = World::uring();
    world.run(async {
        let count = allocations_of(async || {
            let late = timeout(Duration::from_micros(50), std::future::pending::<()>()).await;
            assert_eq!(late.expect_err("it never ends").late, None);
        });
        let count = count.await;
        show("a timeout that expires", count);
        assert!(count <= ROUNDS as u64, "{count}");
    });
}

#[test]
fn yield_now_allocates_nothing() {
    let world = World::uring();
    world.run(async {
        let count = allocations_of(async || yield_now().await.expect("nobody cancels"));
        assert_eq!(count.await, 0);
    });
}

/// A flag that a task waits for, by its waker alone.
#[derive(Clone, Default)]
struct Flag(Rc<(Cell<bool>, RefCell<Option<Waker>>)>);

impl Flag {
    fn set(&self) {
        self.0.0.set(true);
        if let Some(waker) = self.0.1.take() {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            if self.0.0.take() {
                return Poll::Ready(());
            }
            self.0.1.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

#[test]
fn wake_of_a_task_allocates_nothing() {
    let world = World::uring();
    world.run(async {
        let (ping, pong) = (Flag::default(), Flag::default());
        let task = create_task({
            let (ping, pong) = (ping.clone(), pong.clone());
            async move {
                for _ in 0..WARM_UP + ROUNDS {
                    ping.wait().await;
                    pong.set();
                }
            }
        });
        let count = allocations_of(async || {
            ping.set();
            pong.wait().await;
        });
        assert_eq!(count.await, 0);
        task.await;
    });
}

#[test]
fn wake_from_another_thread_allocates_nothing() {
    let world = World::uring();
    world.run(async {
        let (wakers, waiting) = mpsc::sync_channel::<Waker>(1);
        let waker_thread = std::thread::spawn(move || {
            let mut before = 0;
            let mut woken = 0;
            for waker in waiting {
                waker.wake();
                woken += 1;
                if woken == WARM_UP {
                    before = allocations();
                }
            }
            allocations() - before
        });
        let count = allocations_of(async || {
            let mut sent = false;
            poll_fn(|cx| {
                if sent {
                    return Poll::Ready(());
                }
                sent = true;
                wakers.send(cx.waker().clone()).expect("the thread waits");
                Poll::Pending
            })
            .await;
        });
        assert_eq!(count.await, 0);
        drop(wakers);
        assert_eq!(waker_thread.join().expect("it only wakes"), 0);
    });
}

#[test]
fn create_task_allocates_once() {
    let world = World::uring();
    world.run(async {
        let count = allocations_of(async || {
            let task = create_task(async { 7 });
            assert_eq!(task.await, 7);
        });
        assert_eq!(count.await, ROUNDS as u64);
        // A large future, and one that waits, are one block as well.
        let count = allocations_of(async || {
            let task = create_task(async {
                let large = [7_u8; 4096];
                yield_now().await.expect("nobody cancels");
                large[17]
            });
            assert_eq!(task.await, 7);
        });
        assert_eq!(count.await, ROUNDS as u64);
        // Detached.
        let count = allocations_of(async || {
            drop(create_task(async { 7 }));
            yield_now().await.expect("nobody cancels");
        });
        assert_eq!(count.await, ROUNDS as u64);
    });
}

#[test]
fn create_task_of_many_at_once_allocates_once_each() {
    let world = World::uring();
    world.run(async {
        let mut tasks = Vec::with_capacity(ROUNDS);
        for round in 0..3 {
            let before = allocations();
            tasks.extend((0..ROUNDS).map(|_| create_task(yield_now())));
            for task in tasks.drain(..) {
                task.await.expect("nobody cancels");
            }
            if round > 0 {
                assert_eq!(allocations() - before, ROUNDS as u64);
            }
        }
    });
}

#[test]
fn reads_and_writes_of_a_file_allocate_nothing() {
    let world = World::uring();
    let temp = Temp::file(&[7; 4096]);
    world.run(async {
        let file = OpenOptions::new().read(true).write(true).open(&*temp).await;
        let file = file.expect("it is there");
        let mut kept = Some(Vec::with_capacity(4096));
        let count = allocations_of(async || {
            let buf = kept.take().expect("it came back");
            let BufResult(n, buf) = file.read_at(buf, 0).await;
            assert_eq!(n.expect("a file"), 4096);
            let BufResult(written, buf) = file.write_all_at(buf, 0).await;
            written.expect("a file");
            let BufResult(read, buf) = file.read_exact_at(buf, 0).await;
            read.expect("a file");
            kept = Some(buf);
        });
        assert_eq!(count.await, 0);
        let count = allocations_of(async || {
            file.metadata().await.expect("a file");
        });
        assert_eq!(count.await, ROUNDS as u64, "statx has a block of its own");
    });
}

/// What is made for each connection and each file: shown, and bounded.
#[test]
fn connections_and_files_allocate_little() {
    let world = World::uring();
    let temp = Temp::file(b"x");
    world.run(async {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let count = allocations_of(async || {
            let (server, client) = futures_util::join!(listener.accept(), TcpStream::connect(addr));
            drop((server.expect("a client"), client.expect("a server")));
        })
        .await;
        show("an accept and a connect", count);
        assert!(
            count <= 2 * ROUNDS as u64,
            "a reference count each: {count}"
        );
        let count = allocations_of(async || {
            drop(File::open(&*temp).await.expect("it is there"));
        })
        .await;
        show("an open of a file", count);
        assert!(
            count <= 3 * ROUNDS as u64,
            "path and reference count: {count}"
        );
    });
}

/// One by one, and many at once.
#[test]
fn datagrams_of_a_receiver_allocate_nothing() {
    let world = World::uring();
    world.run(async {
        let ours = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let theirs = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        theirs
            .connect(ours.local_addr().expect("it is bound"))
            .expect("it is bound");
        let mut receiver = ours.recv_many();
        let mut answer = [0; 64];
        let count = allocations_of(async || {
            theirs.send(&[7; 64]).expect("it is bound");
            let (received, payload) = receiver.next().await.expect("it has come");
            let BufResult(sent, payload) = ours.send_to(payload, received.from).await;
            assert_eq!(
                (sent.expect("it is bound"), &payload[..]),
                (64, &[7; 64][..])
            );
            assert_eq!(theirs.recv(&mut answer).expect("it has come"), 64);
        });
        assert_eq!(count.await, 0, "an echo");
        let count = allocations_of(async || {
            for _ in 0..50 {
                theirs.send(&[7; 64]).expect("it is bound");
            }
            for _ in 0..50 {
                receiver.next().await.expect("it has come");
            }
        });
        assert_eq!(count.await, 0, "fifty at once");
    });
}

fn show(what: &str, count: u64) {
    eprintln!("{what} allocates {:.2} times", count as f64 / ROUNDS as f64);
}

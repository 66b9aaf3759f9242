//! What things cost in memory, counted in bytes of the heap: slabs and queues with the room that
//! they keep included.

#![cfg(not(miri))]

mod common;
mod counting;

use std::rc::Rc;
use std::time::Duration;

use common::*;
use coring::net::{TcpListener, TcpStream};
use coring::{BufPool, BufResult, Timers, create_task, sleep, wait_for, yield_now};
use counting::{Counting, live_bytes};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: usize = 1_000;
const TASKS: usize = 10_000;

/// An idle connection: a task, its read that is pending, and the stream. The read's buffer is the
/// program's own choice, and not counted.
#[test]
fn idle_connection_costs_under_1536_bytes() {
    let read = cost_of_connections(|mut stream| async move {
        let BufResult(n, _) = stream.read(Vec::with_capacity(BUFFER)).await;
        n
    });
    show("an idle connection", read);
    assert!(read < 1_536, "{read} bytes");
    let limited = cost_of_connections(|mut stream| async move {
        let read = stream.read(Vec::with_capacity(BUFFER));
        wait_for(read, Duration::from_secs(3_600)).await.0
    });
    show("an idle connection with a limit", limited);
    assert!(limited < 1_536, "{limited} bytes");
}

const BUFFER: usize = 512;

fn cost_of_connections<F>(serve: impl Fn(TcpStream) -> F) -> usize
where
    F: Future<Output = std::io::Result<usize>> + 'static,
{
    let world = World::uring();
    world.run(async {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        // The clients are another thread's: nothing of theirs is counted.
        let clients = std::thread::spawn(move || {
            (0..CONNECTIONS)
                .map(|_| std::net::TcpStream::connect(addr).expect("it listens"))
                .collect::<Vec<_>>()
        });
        let mut servers = Vec::with_capacity(CONNECTIONS);
        // The buffers are the runtime's, however many connections it has.
        let _buffers = BufPool::current().expect("there are some");
        let before = live_bytes();
        for _ in 0..CONNECTIONS {
            let (stream, _) = listener.accept().await.expect("a client");
            servers.push(create_task(serve(stream)));
        }
        for _ in 0..3 {
            yield_now().await.expect("nobody cancels"); // Each has begun to read.
        }
        let cost = (live_bytes() - before) as usize / CONNECTIONS - BUFFER;
        drop(clients.join().expect("they only connect"));
        for server in servers {
            assert_eq!(server.await.expect("the end"), 0);
        }
        cost
    })
}

#[test]
fn sleeping_task_costs_under_400_bytes() {
    let mut most = 0;
    for mode in [Timers::Auto, Timers::Kernel, Timers::Heap] {
        let world = World::uring();
        let mut runner = world.builder().timers(mode).build().expect("it was built");
        // Ended all at once: in kernel mode each that is cancelled walks a list.
        let tasks = if mode == Timers::Kernel {
            TASKS / 10
        } else {
            TASKS
        };
        let cost = runner.run(async {
            let over = Rc::new(());
            let before = live_bytes();
            for _ in 0..tasks {
                let over = over.clone();
                drop(create_task(async move {
                    sleep(Duration::from_millis(1_000))
                        .await
                        .expect("nobody cancels");
                    drop(over);
                }));
            }
            for _ in 0..tasks / 100 {
                yield_now().await.expect("nobody cancels"); // Each has gone to sleep.
            }
            assert_eq!(
                Rc::strong_count(&over),
                tasks + 1,
                "the machine is too slow"
            );
            let cost = (live_bytes() - before) as usize / tasks;
            until(|| Rc::strong_count(&over) == 1).await;
            cost
        });
        show(&format!("a sleeping task, {mode:?}"), cost);
        most = most.max(cost);
        finish(runner);
    }
    assert!(most < 400, "{most} bytes");
}

fn show(what: &str, bytes: usize) {
    eprintln!("{what} costs {bytes} bytes");
}

#[test]
fn ended_runner_is_freed_when_its_last_wait_has_told_so() {
    let world = World::uring();
    let cost = |polled: bool| {
        let lock = coring::sync::Lock::new(());
        let _held = lock.try_acquire().expect("it is free");
        let before = live_bytes();
        let mut runner = world.runner();
        let mut waits = Box::pin(lock.acquire());
        runner.run(async { assert!(poll_once(&mut waits).await.is_pending()) });
        drop(runner);
        if polled {
            let over = futures_util::FutureExt::now_or_never(&mut waits);
            over.expect("R9")
                .map(drop)
                .expect_err("its runner has ended");
        }
        drop(waits);
        live_bytes() - before
    };
    cost(false); // Fills the pool of inboxes.
    assert_eq!(cost(true), cost(false));
}

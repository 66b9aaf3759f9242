//! Whom a limit's request to stop reaches, and how often: each await that was under way when it
//! came, once; nobody after the limit is over (C2, C7, C8).

mod common;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use common::*;
use coring::net::{TcpListener, TcpStream};
use coring::sim::Script;
use coring::{
    Cqe, Operation, Partial, Request, Scratch, Task, Timers, create_task, is_cancelled, now, sleep,
    sleep_until, submit_multishot, timeout, timeout_at, wait_for, yield_now,
};
use futures_util::future::{Either, join, join_all, select};

/// Polls a pipe for bytes, again and again.
#[derive(Clone)]
struct Polls(i32);

// SAFETY: the request points at nothing.
unsafe impl Operation for Polls {
    type Output = io::Result<u32>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        const POLL_ADD: u8 = 6;
        const MULTISHOT: u32 = 1;
        Request::new(POLL_ADD, self.0)
            .op_flags(libc::POLLIN as u32)
            .len(MULTISHOT)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        cqe.result()
    }

    fn orphaned(self, _: Cqe) {}
}

fn write_now(fd: i32) {
    // SAFETY: one byte from a static.
    assert_eq!(unsafe { libc::write(fd, b"x".as_ptr().cast(), 1) }, 1);
}

/// What keeps the loop away while time passes and data arrives.
#[expect(clippy::disallowed_methods, reason = "the thread itself is to be late")]
fn block(span: Duration) {
    std::thread::sleep(span);
}

/// Has the loop arm its limits, under Miri. One that never sleeps does so only after 16 turns of 256
/// polls, which take Miri half a minute.
async fn arm_early() {
    if cfg!(miri) {
        sleep(MS).await.expect("nobody cancels");
    }
}

fn left<A, B>(either: Either<A, B>) -> A {
    match either {
        Either::Left(left) => left,
        Either::Right(_) => panic!("the other one"),
    }
}

#[test]
fn c2_limit_that_is_over_stops_no_later_await_of_its_task() {
    let world = World::sim();
    let (reader, _writer) = world.pipe();
    let step = world.short(1);
    let kernel = world.kernel.as_ref().expect("sim");
    kernel.script(READ, Script::Uncancellable(step * 3, 1));
    world.run(async {
        let mut op = read(reader, 8);
        assert!(poll_once(&mut op).await.is_pending());
        let limited = async { left(select(sleep(Duration::MAX), &mut op).await).0 };
        assert!(is_time_out(&error_of(wait_for(limited, step).await)));
        assert_eq!(op.await.0.expect("it could not be cancelled"), 1);
        sleep(step).await.expect("nobody cancels this task");
    });
}

#[cfg(not(miri))]
#[test]
fn c2_limit_that_ties_with_data_stops_no_later_await_of_its_task() {
    let world = World::uring();
    let (reader, writer) = world.pipe();
    world.run(async {
        let mut op = read(reader, 8);
        assert!(poll_once(&mut op).await.is_pending());
        let limited = async { left(select(sleep(Duration::MAX), &mut op).await).0 };
        let mut limited = Box::pin(wait_for(limited, MS * 5));
        assert!(poll_once(&mut limited).await.is_pending());
        sleep(MS).await.expect("nobody cancels"); // The limit's timer is armed.
        write_now(writer);
        block(MS * 20);
        assert!(is_time_out(&error_of(limited.as_mut().await)));
        drop(limited);
        assert_eq!(op.await.0.expect("the data is there"), 1);
        sleep(MS).await.expect("nobody cancels this task");
    });
}

#[cfg(not(miri))]
#[test]
fn c7_accept_that_had_begun_is_stopped_by_a_limit_that_has_passed() {
    let world = World::uring();
    world.run(async {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut accept = Box::pin(async move { listener.accept().await.map(drop) });
        assert!(poll_once(&mut accept).await.is_pending());
        let stopped = create_task(wait_for(accept, Duration::ZERO));
        until(|| stopped.done()).await;
        assert!(is_time_out(&error_of(stopped.await)));
    });
}

#[cfg(not(miri))]
#[test]
fn c8_multishot_that_was_left_by_hand_is_not_told_of_a_limit_that_is_over() {
    let world = World::uring();
    let (reader, writer) = world.pipe();
    world.run(async {
        let mut shots = submit_multishot(Polls(reader));
        let limited = timeout(MS * 5, async {
            select(poll_fn(|cx| shots.poll_next(cx)), sleep(MS)).await;
            sleep(Duration::MAX).await
        });
        assert!(limited.await.is_err());
        write_now(writer);
        let polled = wait_for(shots.next(), PATIENCE).await;
        polled.expect("nobody asks this wait to stop");
    });
}

#[cfg(not(miri))]
#[test]
fn c2_request_is_kept_where_the_awaited_task_was_told_of_a_later_one_elsewhere() {
    let world = World::uring();
    let (reader, writer) = world.pipe();
    world.run(async {
        let shelf: Rc<RefCell<Option<Task<()>>>> = Rc::default();
        let mut told = create_task(async {
            let _ = sleep(Duration::MAX).await; // Told by the limit of the first who awaits it.
            sleep(MS * 20).await.expect("nobody cancels");
        });
        yield_now().await.expect("nobody cancels");
        let put = shelf.clone();
        let first = create_task(async move {
            let limited = timeout(MS * 12, async {
                let _ = select(&mut told, sleep(Duration::MAX)).await;
            });
            let _ = limited.await;
            *put.borrow_mut() = Some(told);
        });
        let second = create_task(async move {
            let mut op = read(reader, 8);
            assert!(poll_once(&mut op).await.is_pending());
            let limited = wait_for(
                async {
                    op.await.0?; // Has its result when the limit passes: it wins (C1).
                    poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        if shelf.borrow().is_some() {
                            Poll::Ready(())
                        } else {
                            Poll::Pending
                        }
                    })
                    .await;
                    let told = shelf.borrow_mut().take().expect("it is there");
                    told.await;
                    sleep(PATIENCE).await // Here the request is due.
                },
                MS * 8,
            );
            limited.await
        });
        sleep(MS * 3).await.expect("nobody cancels");
        write_now(writer);
        block(MS * 30);
        first.await;
        assert!(is_time_out(&error_of(second.await)));
    });
}

each_driver! {
    fn c2_request_that_ends_a_foreign_future_in_an_inner_limit_is_used_up_by_that(world) {
        world.run(async {
            let step = world.short(1);
            let task = create_task(async move {
                let inner = wait_for(pending::<io::Result<()>>(), step * 4).await;
                (is_cancelled(&error_of(inner)), sleep(step).await.is_err())
            });
            let expired = timeout(step, task).await.expect_err("the inner limit is longer");
            assert_eq!(expired.late, Some((true, false)));
        });
    }

    fn c8_limit_that_moves_below_a_request_that_was_used_up_says_that_it_timed_out(world) {
        world.run(async {
            let step = world.short(1);
            let mut moved = Box::pin(wait_for(sleep(Duration::MAX), step * 4));
            assert!(poll_once(&mut moved).await.is_pending());
            let task = create_task(async move {
                let limited = timeout(step, async {
                    assert!(is_cancelled(&error_of(sleep(Duration::MAX).await)));
                    assert!(is_time_out(&error_of(moved.await)));
                });
                assert!(limited.await.is_err());
            });
            task.await;
        });
    }

    fn c5_foreign_future_is_dropped_at_its_limit_beside_a_branch_that_is_busy(world) {
        world.run(async {
            let over = Cell::new(false);
            let busy = async {
                let mut kernel = world.kernel.clone();
                arm_early().await;
                while !over.get() {
                    yield_now().await.expect("nobody cancels");
                    if let Some(kernel) = &mut kernel {
                        kernel.advance(world.short(1) / 100);
                    }
                }
            };
            let limited = async {
                let limited = wait_for(pending::<io::Result<()>>(), world.short(1));
                assert!(is_time_out(&error_of(limited.await)));
                over.set(true);
            };
            join(busy, limited).await;
        });
    }

    fn c5_foreign_future_that_wakes_itself_is_dropped_at_its_limit(world) {
        world.run(async {
            let foreign = poll_fn(|cx| -> Poll<io::Result<()>> {
                cx.waker().wake_by_ref();
                if let Some(kernel) = &world.kernel {
                    kernel.advance(world.short(1) / 100);
                }
                Poll::Pending
            });
            let foreign = async {
                arm_early().await;
                foreign.await
            };
            assert!(is_time_out(&error_of(wait_for(foreign, world.short(1)).await)));
        });
    }

    fn c5_clean_up_that_yields_is_not_dropped(world) {
        world.run(async {
            let yields = Cell::new(0);
            let limited = timeout(world.short(1), async {
                assert!(sleep(Duration::MAX).await.is_err());
                for _ in 0..100 {
                    yield_now().await.expect("the request was used up");
                    sleep(Duration::ZERO).await.expect("the request was used up");
                    yields.set(yields.get() + 1);
                }
            });
            assert_eq!(limited.await.expect_err("it heard").late, Some(()));
            assert_eq!(yields.get(), 100);
        });
    }
}

#[test]
fn limit_carried_by_what_cannot_be_cancelled_reaches_its_siblings_in_time() {
    let world = World::sim();
    let (reader, _writer) = world.pipe();
    let step = world.short(1);
    let kernel = world.kernel.as_ref().expect("sim");
    kernel.script(READ, Script::Uncancellable(step * 5, 1));
    world.run(async {
        let begin = now();
        let told = Cell::new(None);
        let sibling = async {
            let slept = sleep(Duration::MAX).await;
            told.set(Some(now() - begin));
            slept
        };
        let limited = async { join(read(reader, 8), sibling).await.1 };
        assert!(is_time_out(&error_of(wait_for(limited, step).await)));
        assert_eq!(told.get(), Some(step));
        assert_eq!(now() - begin, step * 5, "C4: the read is waited for");
    });
}

/// A connect that was stopped goes on in its socket, so it can't be started again: what ends it is
/// never the kernel's timeout behind it.
#[cfg(not(miri))]
#[test]
fn connect_that_leaves_its_limit_goes_on() {
    let world = World::uring();
    world.run(async {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = listener.expect("a socket");
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        listener.bind(&any.into()).expect("a free port");
        listener.listen(0).expect("it is bound");
        let addr = listener.local_addr().expect("it is bound");
        let addr = addr.as_socket().expect("of the internet");
        // Its queue is full now: the next connect has no answer.
        let first = std::net::TcpStream::connect(addr).expect("it listens");
        let mut connect = Box::pin(TcpStream::connect(addr));
        let limited = async {
            match select(&mut connect, sleep(MS * 20)).await {
                Either::Left(_) => panic!("it is not accepted"),
                Either::Right((slept, _)) => slept,
            }
        };
        wait_for(limited, MS * 60).await.expect("in time");
        let accepts = create_task(async move {
            sleep(MS * 200).await.expect("nobody cancels");
            (listener.accept().expect("the first"), listener)
        });
        let connected = wait_for(connect, PATIENCE).await;
        connected.expect("nobody stops this connect");
        accepts.await;
        drop(first);
    });
}

#[cfg(not(miri))]
#[test]
fn c7_empty_transfers_are_cancellation_points() {
    let world = World::uring();
    world.run(async {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let mut stream = TcpStream::connect(addr).await.expect("it listens");
        let _peer = listener.accept().await.expect("it came");
        let none = Vec::new;
        for result in [
            wait_for(stream.write_all(none()), Duration::ZERO).await.0,
            wait_for(stream.read_exact(none()), Duration::ZERO).await.0,
        ] {
            assert!(is_time_out(&error_of(result)));
        }
        let endless = async {
            loop {
                stream.write_all(none()).await.0?;
            }
        };
        let endless: io::Result<()> = wait_for(endless, MS).await;
        assert!(is_time_out(&error_of(endless)));
    });
}

#[cfg(not(miri))]
#[test]
fn write_that_times_out_part_of_the_way_says_how_much_also_in_a_result() {
    let world = World::uring();
    world.run(async {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let mut stream = TcpStream::connect(addr).await.expect("it listens");
        let _peer = listener.accept().await.expect("it came");
        let write = async { stream.write_all(vec![0; 64 << 20]).await.0 };
        let error = error_of(wait_for(write, MS * 50).await);
        assert!(is_time_out(&error));
        let partial = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Partial>());
        assert!(
            partial.is_some_and(|partial| partial.transferred > 0),
            "{error}"
        );
    });
}

#[cfg(not(miri))]
#[test]
fn c1_sleep_that_ties_with_its_limit_is_over() {
    let world = World::uring();
    for timers in [Timers::Heap, Timers::Kernel, Timers::Auto] {
        let mut runner = world.builder().timers(timers).build().expect("io_uring");
        runner.run(async {
            let mut rounds = 0;
            while rounds < 20 {
                let moment = now() + MS * 4;
                let ties = (0..200).map(|_| timeout_at(moment, sleep_until(moment)));
                let mut ties = join_all(ties);
                let armed = poll_once(&mut ties).await;
                if now() >= moment {
                    continue; // Too late to wait for: that is no tie.
                }
                assert!(armed.is_pending());
                for tie in ties.await {
                    tie.expect("C1: the sleep is over").expect("nobody cancels");
                }
                rounds += 1;
            }
        });
    }
}

//! What a real kernel does at its limits: interrupted, out of descriptors, overflowing.

#![cfg(not(miri))]

mod common;

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use common::*;
use coring_runtime::*;

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("loopback is there")
}

fn connect(listener: &TcpListener) -> TcpStream {
    TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens")
}

/// Signals this thread all the time, with a handler that does not restart system calls.
struct Storm(libc::timer_t);

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, SeqCst);
}

fn count_signals(signal: libc::c_int) {
    // SAFETY: zero is a valid value of this plain structure; the handler only adds to an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as *const () as usize;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

impl Storm {
    fn new(every: Duration) -> Self {
        count_signals(libc::SIGUSR1);
        // SAFETY: zero is a valid value of these plain structures; the timer is deleted by `drop`.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGUSR1;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer = std::mem::zeroed();
            assert_eq!(
                libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer),
                0
            );
            let every = libc::timespec {
                tv_sec: 0,
                tv_nsec: every.subsec_nanos().into(),
            };
            let times = libc::itimerspec {
                it_interval: every,
                it_value: every,
            };
            assert_eq!(
                libc::timer_settime(timer, 0, &times, std::ptr::null_mut()),
                0
            );
            Self(timer)
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and deleted once.
        assert_eq!(unsafe { libc::timer_delete(self.0) }, 0);
    }
}

/// Signals this process all the time, by its one real interval timer.
struct IntervalStorm;

impl IntervalStorm {
    fn new(every: Duration) -> Self {
        count_signals(libc::SIGALRM);
        Self::set(every);
        Self
    }

    fn set(every: Duration) {
        let every = libc::timeval {
            tv_sec: 0,
            tv_usec: every.subsec_micros().into(),
        };
        let times = libc::itimerval {
            it_interval: every,
            it_value: every,
        };
        // SAFETY: a plain structure, readable; nobody wants the old one.
        let res = unsafe { libc::setitimer(libc::ITIMER_REAL, &times, std::ptr::null_mut()) };
        assert_eq!(res, 0);
    }
}

impl Drop for IntervalStorm {
    fn drop(&mut self) {
        Self::set(Duration::ZERO);
    }
}

/// Whether this thread takes `signal`. Threads and programs that it starts inherit the answer.
fn take_signal(signal: libc::c_int, take: bool) -> std::io::Result<()> {
    let how = if take {
        libc::SIG_UNBLOCK
    } else {
        libc::SIG_BLOCK
    };
    // SAFETY: zero is a valid value of this plain structure, which is writable.
    let res = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(how, &set, std::ptr::null_mut())
    };
    match res {
        0 => Ok(()),
        errno => Err(std::io::Error::from_raw_os_error(errno)),
    }
}

/// Sleeps, reads, writes and ends while signals interrupt each enter.
fn outlive_storm<S>(mut runner: Runner, (reader, writer): (RawFd, RawFd), storm: impl Fn() -> S) {
    let before = SIGNALS.load(SeqCst);
    let storm = storm();
    runner.run(async {
        let task = create_task(async move {
            for round in 0..200u8 {
                let BufResult(n, buf) = read(reader, 1).await;
                assert_eq!((n.expect("open"), buf[0]), (1, round));
            }
        });
        for round in 0..200u8 {
            // Sleeps in the enter, over and over.
            Timer::after(Duration::from_micros(150))
                .await
                .expect("nobody cancels");
            assert_eq!(write(writer, &[round]).await.0.expect("open"), 1);
        }
        task.await;
        let begin = now();
        Timer::after(Duration::from_millis(30))
            .await
            .expect("nobody cancels");
        assert!(
            now() - begin >= Duration::from_millis(30),
            "a signal must not end a sleep"
        );
        let mut abandoned = read(reader, 1);
        start(&mut abandoned).await;
    });
    // Its end waits in an enter as well.
    drop(runner);
    drop(storm);
    assert!(SIGNALS.load(SeqCst) > before + 100, "there was no storm");
}

fn small_runner() -> Runner {
    Runner::builder()
        .sq_entries(8)
        .cq_entries(16)
        .build()
        .expect("io_uring")
}

#[test]
fn r3_storm_of_signals_loses_nothing_and_ends_no_loop() {
    let world = World::uring();
    outlive_storm(small_runner(), world.pipe(), || {
        Storm::new(Duration::from_micros(50))
    });
}

/// setitimer(2) signals the process: any thread of it that takes the signal. The program is started
/// with SIGALRM blocked, which each thread inherits, and the test's own thread alone unblocks it.
#[test]
fn r3_storm_of_the_real_interval_timer_loses_nothing_and_ends_no_loop() {
    let name = "r3_storm_of_the_real_interval_timer_loses_nothing_and_ends_no_loop";
    let blocked = |child: &mut Command| {
        // SAFETY: changing the mask is all that is done between fork and exec, and is
        // async-signal-safe.
        unsafe { child.pre_exec(|| take_signal(libc::SIGALRM, false)) };
    };
    if !alone_in_a_process_with(name, blocked) {
        return;
    }
    let world = World::uring();
    take_signal(libc::SIGALRM, true).expect("a signal that there is");
    outlive_storm(small_runner(), world.pipe(), || {
        IntervalStorm::new(Duration::from_micros(50))
    });
}

#[test]
fn r11_multishot_accept_ended_by_overflow_is_armed_again_and_loses_no_connection() {
    let world = World::uring();
    let mut runner = Runner::builder()
        .sq_entries(8)
        .cq_entries(16)
        .build()
        .expect("io_uring");
    let listener = listener();
    let clients = runner.run(async {
        let mut accepts = submit_multishot(Yields::accept_multi(listener.as_raw_fd()));
        let mut clients = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..4 {
            {
                let mut next = Box::pin(accepts.next());
                let _ = poll_here(&mut next)
                    .await
                    .map(|stream| streams.push(stream));
            }
            // More than the queue holds, together with NOPs, in one enter.
            let mut nops: Vec<_> = (0..100).map(|_| nop()).collect();
            for nop in &mut nops {
                start(nop).await;
            }
            for _ in 0..30 {
                clients.push(connect(&listener));
            }
            for nop in nops {
                nop.await.expect("a NOP succeeds");
            }
        }
        while streams.len() < clients.len() {
            streams.push(accepts.next().await);
        }
        for stream in streams {
            drop(stream.expect("a connection"));
        }
        clients.len()
    });
    assert_eq!(clients, 120);
    assert!(runner.stats().overflows > 0, "nothing overflowed");
    // Armed once, and again after each overflow: the submissions say so.
    assert!(runner.stats().submissions > 400 + 1, "{:?}", runner.stats());
    world.finish(runner);
}

#[test]
fn accept_without_descriptors_left_is_an_error_and_the_listener_lives() {
    if !alone_in_a_process("accept_without_descriptors_left_is_an_error_and_the_listener_lives") {
        return;
    }
    let mut runner = Runner::builder().sq_entries(8).build().expect("io_uring");
    let listener = listener();
    let client = connect(&listener);
    let limit = |soft| {
        // SAFETY: plain structures, readable and writable.
        unsafe {
            let mut limit: libc::rlimit = std::mem::zeroed();
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
            limit.rlim_cur = soft;
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
        }
    };
    // Every number below it is taken.
    let top = std::fs::File::open("/dev/null").expect("it is there");
    let mut below = Vec::new();
    limit(top.as_raw_fd() as u64 + 1);
    while let Ok(file) = std::fs::File::open("/dev/null") {
        below.push(file);
    }
    for multi in [false, true] {
        let before = runner.stats();
        runner.run(async {
            let accept = Yields::accept_multi(listener.as_raw_fd());
            let error = if multi {
                submit_multishot(accept)
                    .next()
                    .await
                    .expect_err("no number is free")
            } else {
                submit(Yields::accept(listener.as_raw_fd()))
                    .await
                    .expect_err("no number is free")
            };
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
            // Nobody asks: nothing may go on by itself.
            Timer::after(Duration::from_millis(20))
                .await
                .expect("nobody cancels");
        });
        let enters = runner.stats().enters - before.enters;
        assert!(enters < 20, "a busy loop: {enters} enters");
    }
    limit(top.as_raw_fd() as u64 + 16);
    runner.run(async {
        let mut accepts = submit_multishot(Yields::accept_multi(listener.as_raw_fd()));
        accepts
            .next()
            .await
            .expect("the connection waited in the backlog");
    });
    drop(client);
    drop(below);
    quiesce(&mut runner);
    assert_clean(&runner.stats());
}

/// A runtime that cannot be made says why, and leaves nothing.
#[test]
fn runner_without_descriptors_left_says_so() {
    if !alone_in_a_process("runner_without_descriptors_left_says_so") {
        return;
    }
    let mut files = Vec::new();
    // SAFETY: plain structures, readable.
    unsafe {
        let limit = libc::rlimit {
            rlim_cur: 64,
            rlim_max: 64,
        };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    while let Ok(file) = std::fs::File::open("/dev/null") {
        files.push(file);
    }
    let unavailable = Runner::builder()
        .build()
        .expect_err("no descriptor is left");
    assert_eq!(unavailable.errno, libc::EMFILE);
    assert!(
        matches!(unavailable.reason, Reason::NoDescriptors),
        "{unavailable}"
    );
    // With room for the ring and nothing else it works, but is deaf; not once there is room, which
    // it looks for while it sleeps.
    files.pop();
    let mut runner = Runner::builder().build().expect("one descriptor is enough");
    assert_eq!(
        runner.run(async { nop().await.expect("a NOP succeeds") }),
        0
    );
    let handle = runner.handle();
    let awaited: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
    let there = awaited.clone();
    let (sleeps, wait) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        wait.recv().expect("it is sent");
        for _ in 0..1_000 {
            std::thread::yield_now(); // So that it sleeps, as far as can be told.
        }
        drop(files);
        drop(handle.spawn(move || async move {
            let (ran, waker) = &mut *lock(&there);
            *ran = true;
            waker.take().expect("main waits").wake();
        }));
    });
    runner
        .run(async {
            sleeps.send(()).expect("it waits");
            let body = std::future::poll_fn(|cx| {
                let mut awaited = lock(&awaited);
                awaited.1 = Some(cx.waker().clone());
                if awaited.0 {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                }
            });
            wait_for(Duration::from_secs(3), body).await
        })
        .expect("it heard of the task while it slept");
    thread.join().expect("it does not panic");
}

/// Rings that this process has open.
fn open_rings() -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let targets = fds
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().contains("io_uring"))
        .count()
}

#[test]
fn r9_ring_of_a_runtime_that_has_ended_is_closed_whoever_has_woken_it() {
    let world = World::uring();
    let mut runner = world.runner();
    let before = open_rings();
    let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
    let there = waker.clone();
    let other = std::thread::spawn(move || {
        run(std::future::poll_fn(move |cx| {
            match lock(&there).replace(cx.waker().clone()) {
                None => Poll::Pending,
                Some(_) => Poll::Ready(()),
            }
        }));
    });
    runner.run(async {
        // By a message from ring to ring, if it sleeps by now.
        wait_for(Duration::from_secs(20), async {
            while !other.is_finished() {
                if let Some(waker) = &*lock(&waker) {
                    waker.wake_by_ref();
                }
                Timer::after(Duration::from_millis(1)).await?;
            }
            Ok(())
        })
        .await
        .expect("it ends when it is woken");
    });
    other.join().expect("it does not panic");
    assert_eq!(open_rings(), before, "R9");
    world.finish(runner);
}

/// Alone in its process, since stderr is everybody's.
#[test]
fn r9_end_with_something_to_report_and_nobody_to_read_it_is_an_end() {
    const SELF: &str = "r9_end_with_something_to_report_and_nobody_to_read_it_is_an_end";
    if !alone_in_a_process(SELF) {
        return;
    }
    let kernel = sim::Kernel::new();
    let never = sim::Script::Uncancellable(Duration::from_secs(1 << 30), 0);
    kernel.script(NOP, never);
    let mut runner = Runner::builder().sim(&kernel).build().expect("a simulator");
    let handle = runner.handle();
    let mut op = nop();
    runner.run(start(&mut op));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    // SAFETY: descriptors that are open; Rust ignores SIGPIPE.
    let stderr = unsafe { libc::dup(2) };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::dup2(writer.as_raw_fd(), 2) }, 2);
    drop(runner);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::dup2(stderr, 2) }, 2);
    assert!(!handle.is_alive());
}

#[test]
fn rings_are_made_and_ended_many_times_and_give_everything_back() {
    let world = World::uring();
    for _ in 0..64 {
        // More than the places that a thread has for registered rings.
        let mut runner = Runner::builder()
            .sq_entries(8)
            .cq_entries(16)
            .build()
            .expect("io_uring");
        assert_eq!(
            runner.run(async { nop().await.expect("a NOP succeeds") }),
            0
        );
        assert!(
            runner
                .features()
                .is_some_and(|features| features.registered_ring)
        );
        world.finish(runner);
    }
}

#[test]
fn queues_of_any_sizes_that_the_builder_takes_make_a_ring() {
    let world = World::uring(); // Alone, and its descriptors are counted.
    for (sq, cq) in [(8, 8), (256, 8), (4_096, 8), (8, 4_096)] {
        let runner = Runner::builder().sq_entries(sq).cq_entries(cq).build();
        let features = runner.expect("a ring").features().expect("of a ring");
        assert!(features.sq_entries >= sq, "{features:?}");
        assert!(features.cq_entries >= cq.max(sq), "{features:?}");
    }
    // Beyond what the kernel makes it is what the kernel makes.
    let runner = Runner::builder().sq_entries(32_768).build();
    let features = runner.expect("a ring").features().expect("of a ring");
    assert!(features.cq_entries >= features.sq_entries);
    drop(world);
}

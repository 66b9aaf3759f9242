//! Futures of coring's that are forgotten with what they have in flight (C9): only what they hold
//! themselves is lost. Leak checkers are switched off for this file.

mod common;

use std::future::pending;
use std::time::Duration;

use common::*;
use coring::fs::File;
use coring::net::{TcpListener, TcpStream};
use coring::{
    create_task, current_task, gather_all, is_cancelled, now, sleep, sleep_until, timeout,
    wait_for, yield_now,
};
use futures_util::FutureExt;

/// What `$make` gives is polled once and forgotten. Its slot stays taken, as long as the runner
/// lives: nobody can know that nobody will ask. But the runner ends, and in good time.
macro_rules! forget {
    ($world:ident, $slots:expr, $fds:expr, $make:expr) => {{
        let mut runner = $world.runner();
        runner.run(async {
            let mut future = Box::pin($make);
            assert!(poll_once(&mut future).await.is_pending());
            #[expect(clippy::mem_forget, reason = "what the test is about")]
            std::mem::forget(future);
            yield_now().await.expect("nobody cancels");
            sleep(MS).await.expect("nobody cancels");
        });
        let stats = runner.stats();
        assert_eq!(stats.slots, $slots, "{}: {stats:?}", stringify!($make));
        drop(runner);
        // What is forgotten with its operation holds the operation's descriptor.
        $world.expect_lost_fds($fds);
    }};
}

each_driver! {
    fn futures_that_are_forgotten_keep_their_slot_only(world) {
        let (reader, _writer) = world.pipe();
        let day = Duration::from_secs(86_400);
        forget!(world, 1, 0, sleep(day));
        forget!(world, 1, 0, sleep_until(now() + day));
        forget!(world, 1, 0, wait_for(sleep(day), day));
        forget!(world, 1, 0, timeout(day, sleep(day)));
        forget!(world, 0, 0, timeout(day, pending::<()>()));
        forget!(world, 0, 0, yield_now());
        forget!(world, 1, 0, read(reader, 9));
        forget!(world, 1, 0, wait_for(read(reader, 9), day));
        // A task that is awaited has no slot: its own header says where.
        forget!(world, 0, 0, create_task(async {
            yield_now().await.expect("nobody cancels");
        }));
        // A limit of its own fires with nobody to see it, and does no harm.
        forget!(world, 1, 0, wait_for(sleep(day), MS / 2));
        forget!(world, 0, 0, timeout(MS / 2, pending::<()>()));
    }

    fn limit_ends_around_what_is_done_and_forgotten(world) {
        let (reader, writer) = world.pipe();
        let mut runner = world.runner();
        runner.run(async {
            let limit = world.short(1);
            let limited = timeout(limit, async {
                let mut op = read(reader, 8);
                assert!((&mut op).now_or_never().is_none());
                #[expect(clippy::mem_forget, reason = "what the test is about")]
                std::mem::forget(op);
                write(writer, b"x").await.expect("it has room");
                pending::<()>().await;
            });
            assert!(limited.await.is_err());
        });
        finish_with_slots(runner, 1);
    }

    fn c2_request_is_heard_once_behind_branches_and_limits_that_were_forgotten(world) {
        let mut runner = world.runner();
        runner.run(async {
            let mut branches = gather_all([yield_now(), yield_now()]);
            assert!(poll_once(&mut branches).await.is_pending());
            let task = begun(sleep(MS)).await;
            let mut limited = Box::pin(wait_for(task, LONG));
            assert!(poll_once(&mut limited).await.is_pending());
            #[expect(clippy::mem_forget, reason = "what the test is about")]
            std::mem::forget((branches, limited));
            current_task().cancel();
            assert!(is_cancelled(&error_of(yield_now().await)));
            sleep(MS * 5).await.expect("it was told");
        });
        drop(runner);
    }
}

#[cfg(not(miri))]
#[test]
fn futures_of_io_that_are_forgotten_keep_slot_and_descriptor() {
    let world = World::uring();
    let temp = Temp::file(&[7; 4096]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = || {
        let addr = listener.local_addr().expect("it is bound");
        TcpStream::from(std::net::TcpStream::connect(addr).expect("it listens"))
    };
    let file = || File::from(std::fs::File::open(&*temp).expect("it is there"));
    forget!(world, 1, 1, {
        let mut stream = client();
        async move { stream.read(Vec::with_capacity(9)).await.0 }
    });
    forget!(world, 1, 1, {
        let mut stream = client();
        async move {
            wait_for(stream.read_exact(Vec::with_capacity(9)), MS / 2)
                .await
                .0
        }
    });
    forget!(world, 1, 1, {
        let mut stream = client();
        async move { stream.write_all("x").await.0 }
    });
    forget!(world, 1, 1, {
        let file = file();
        async move { file.read_at(Vec::with_capacity(9), 0).await.0 }
    });
    forget!(world, 1, 1, {
        let file = file();
        async move { file.metadata().await.map(drop) }
    });
    forget!(world, 1, 1, {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut listener = TcpListener::from(listener);
        async move { listener.accept().await.map(drop) }
    });
    // A descriptor that came is in a completion that nobody fetched.
    forget!(world, 1, 1, File::open("/dev/null"));
    drop(listener);
}

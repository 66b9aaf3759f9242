//! `#[coring::main]` and `#[coring::test]`. What is wrong with them is in `macros/tests/ui`, and so
//! is what takes the process's main thread.

#![cfg(not(miri))]

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use coring::fs::OpenOptions;
use coring::{
    Runner, Stats, Timers, create_task, current_task, gather_all, now, ok, run, sleep, yield_now,
};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3_600);

// ---- main ----

#[test]
fn main_gives_its_result() {
    #[coring::main]
    async fn main() -> io::Result<u32> {
        sleep(MS).await?;
        let task = create_task(async { 41 });
        ok(task.await + 1)
    }
    assert_eq!(main().expect("nothing failed"), 42);
}

#[test]
fn main_gives_the_error_of_a_question_mark() {
    #[coring::main]
    async fn main() -> Result<(), Box<dyn std::error::Error>> {
        yield_now().await.expect("nobody asks");
        "seven".parse::<u32>()?;
        unreachable!("that is no number")
    }
    let error = main().expect_err("it should have failed");
    assert!(error.is::<std::num::ParseIntError>());
}

#[test]
fn main_asks_the_other_tasks_to_stop() {
    thread_local!(static STOPPED: Cell<bool> = const { Cell::new(false) });
    #[coring::main]
    async fn main() {
        drop(create_task(async {
            let stopped = sleep(LONG).await;
            STOPPED.set(stopped.is_err_and(|error| coring::is_cancelled(&error)));
        }));
        yield_now().await.expect("nobody asks");
    }
    main();
    assert!(STOPPED.get());
}

mod inner {
    /// Seen from outside of this module, and with an attribute for the compiler.
    #[must_use]
    #[coring::main]
    pub(super) async fn visible() -> u8 {
        #![expect(unused_variables, reason = "attributes may stand in the body")]
        let unused = 1;
        return early().await;

        async fn early() -> u8 {
            7
        }
    }
}

#[test]
fn main_keeps_visibility_and_attributes() {
    assert_eq!(inner::visible(), 7);
}

#[test]
#[should_panic(expected = "from within a runtime")]
fn main_in_a_run_is_refused() {
    #[coring::main]
    async fn main() {}
    run(async { main() });
}

// ---- test ----

#[coring::test]
async fn test_runs_in_a_task() {
    let me = current_task();
    yield_now().await.expect("nobody asks");
    assert_eq!(current_task(), me);
}

#[coring::test]
async fn test_may_end_with_a_question_mark() -> io::Result<()> {
    sleep(MS).await?;
    ok(())
}

#[coring::test]
#[should_panic(expected = "it should be seven")]
async fn test_keeps_should_panic() {
    let six = create_task(async { 6 });
    assert_eq!(six.await, 7, "it should be seven");
}

#[should_panic(expected = "nobody")]
#[coring::test]
async fn test_keeps_an_attribute_in_front_of_it() {
    panic!("nobody is told");
}

#[coring::test]
#[cfg(any())]
async fn test_keeps_cfg() {
    this_does_not_exist();
}

// ---- options ----

/// What has been counted when `count` tasks have begun to sleep: enters, and sleeps submitted.
async fn begun(count: usize) -> (u64, u64) {
    let before = Stats::current();
    for _ in 0..count {
        drop(create_task(sleep(LONG)));
    }
    for _ in 0..3 {
        yield_now().await.expect("nobody asks");
    }
    let after = Stats::current();
    (
        after.enters - before.enters,
        after.submissions - before.submissions,
    )
}

#[coring::test(timers = "kernel", sq_entries = 8)]
async fn sq_entries_reach_the_runtime() {
    let (enters, _) = begun(128).await;
    assert!(enters >= 128 / 8, "{enters} enters");
}

#[coring::test(timers = "kernel", sq_entries = 128)]
async fn sq_entries_are_what_one_enter_takes() {
    let (enters, _) = begun(128).await;
    assert!(enters < 128 / 8, "{enters} enters");
}

#[coring::test(timers = "kernel")]
async fn timers_of_the_kernel_are_submitted() {
    assert_eq!(begun(128).await.1, 128);
}

#[coring::test(timers = "heap")]
async fn timers_of_the_heap_are_not_submitted() {
    assert_eq!(begun(128).await.1, 0);
}

#[coring::test(timers = "auto")]
async fn timers_are_in_the_kernel_while_they_are_few() {
    assert_eq!(begun(128).await.1, u64::from(Timers::KERNEL_MAX));
}

/// How often the completion queue has overflowed when 256 writes were done at once.
async fn overflows() -> io::Result<u64> {
    let null = OpenOptions::new().write(true).open("/dev/null").await?;
    let written = gather_all((0..256).map(|_| async { null.write_at("x", 0).await.0 })).await?;
    assert_eq!(written, [1; 256]);
    ok(Stats::current().overflows)
}

#[coring::test(sq_entries = 8, cq_entries = 8)]
async fn cq_entries_reach_the_runtime() -> io::Result<()> {
    assert_ne!(overflows().await?, 0);
    ok(())
}

#[coring::test(sq_entries = 8, cq_entries = 1_024)]
async fn cq_entries_are_what_the_kernel_can_hand_back() -> io::Result<()> {
    assert_eq!(overflows().await?, 0);
    ok(())
}

/// A task that takes no notice of what it is asked is dropped after twice this long, not after 10
/// seconds.
const SHORT: Duration = Duration::from_millis(10);

#[test]
fn grace_reaches_the_runner() {
    #[coring::main(grace = SHORT / 2, ctrl_c = false, iowait = true)]
    async fn main() -> Rc<()> {
        let alive = Rc::new(());
        let held = alive.clone();
        drop(create_task(async move {
            let _held = held;
            while let Err(_asked) = sleep(LONG).await {}
        }));
        yield_now().await.expect("nobody asks");
        alive
    }
    let mut clock = Runner::builder().build().expect("a driver");
    let begin = clock.run(async { now() });
    let alive = main();
    let end = clock.run(async { now() });
    assert_eq!(Rc::strong_count(&alive), 1);
    assert!(end - begin < Duration::from_secs(5));
}

// ---- Builder::run ----

#[test]
fn builder_run_goes_on_with_the_panic_of_main_after_the_others_have_ended() {
    let ended = Rc::new(Cell::new(false));
    let ends = ended.clone();
    let main = async move {
        drop(create_task(async move {
            let _ = sleep(LONG).await;
            ends.set(true);
        }));
        yield_now().await.expect("nobody asks");
        panic!("of main");
    };
    let run = std::panic::AssertUnwindSafe(|| Runner::builder().run(main));
    let panic = std::panic::catch_unwind(run).expect_err("it should have panicked");
    assert_eq!(panic.downcast_ref(), Some(&"of main"));
    assert!(ended.get());
}

//! Debug mode: each part is played by a process of its own, whose stderr is read.

mod common;

use std::process::Command;
use std::time::Duration;

use common::*;
use coring::{Runner, Task, TaskGroup, create_task, ok, run, sleep, task_group, yield_now};

const ROLE: &str = "CORING_TEST_ROLE";

/// What this program reports, in the part `role` of the test below.
fn reports(role: &str, debug: &str) -> Vec<String> {
    let output = Command::new(std::env::current_exe().expect("it runs"))
        .args(["--exact", "plays_its_role", "--nocapture"])
        .env(ROLE, role)
        .env("CORING_DEBUG", debug)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{role}: {output:?}");
    let text = String::from_utf8(output.stderr).expect("text");
    let lines = text.lines().filter(|line| line.starts_with("coring: "));
    lines.map(str::to_owned).collect()
}

/// There is one report, and it has these words.
fn reports_one(role: &str, words: &[&str]) {
    let reported = reports(role, "1");
    assert_eq!(reported.len(), 1, "{role}: {reported:?}");
    for word in words {
        assert!(reported[0].contains(word), "{word}: {reported:?}");
    }
    assert!(reports(role, "").is_empty(), "{role}: off");
    assert!(reports(role, "0").is_empty(), "{role}: off");
}

fn named<F: Future + 'static>(name: &str, future: F) -> Task<F::Output> {
    Task::builder().name(name).spawn(future)
}

#[cfg(not(miri))]
#[test]
fn plays_its_role() {
    let Ok(role) = std::env::var(ROLE) else {
        return; // Nobody asked it to.
    };
    run(async move {
        match role.as_str() {
            "slow" => {
                let blocks = named("blocker", async {
                    #[expect(clippy::disallowed_methods, reason = "this is what is reported")]
                    std::thread::sleep(Duration::from_millis(120));
                });
                blocks.await;
            }
            "swallows" => {
                let swallows = named("swallower", async {
                    let _ = sleep(LONG).await;
                    for _ in 0..25 {
                        let _ = sleep(Duration::from_millis(50)).await;
                    }
                });
                yield_now().await.expect("nobody cancels");
                swallows.cancel();
                swallows.await;
            }
            "cleans up" => {
                let cleans = named("cleaner", async {
                    let stopped = sleep(LONG).await;
                    sleep(Duration::from_millis(20)).await.expect("told once");
                    stopped
                });
                yield_now().await.expect("nobody cancels");
                cleans.cancel();
                assert!(cleans.await.is_err());
            }
            "drops" => {
                let (reader, _writer) = std::io::pipe().expect("a pipe");
                let drops = named("dropper", async move {
                    let mut op = read(number(&reader), 8);
                    assert!(poll_once(&mut op).await.is_pending());
                    yield_now().await.expect("nobody cancels");
                });
                drops.await;
            }
            "fails unseen" => {
                drop(named("failer", async {
                    Err::<(), _>(std::io::Error::other("no luck"))
                }));
                yield_now().await.expect("nobody cancels");
            }
            "fails and is dropped" => {
                let fails = named("failer", async {
                    Err::<(), _>(std::io::Error::other("no luck"))
                });
                yield_now().await.expect("nobody cancels");
                drop(fails);
            }
            "fails and is seen" => {
                let fails = create_task(async { Err::<(), _>(std::io::Error::other("no luck")) });
                assert!(fails.await.is_err());
                let cancelled = create_task(sleep(LONG));
                yield_now().await.expect("nobody cancels");
                cancelled.cancel();
                drop(cancelled);
            }
            "drops a group" => {
                let mut group = Box::pin(task_group(async |g: TaskGroup<std::io::Error>| {
                    g.create_task(sleep(LONG));
                    ok(())
                }));
                assert!(poll_once(&mut group).await.is_pending());
            }
            role => panic!("nobody plays {role}"),
        }
    });
}

#[cfg(not(miri))]
#[test]
fn poll_that_is_slow_is_reported_with_task_and_place() {
    let words = ["blocker", "tests/debug.rs:", "without a break", "to_thread"];
    reports_one("slow", &words);
}

#[cfg(not(miri))]
#[test]
fn request_that_was_swallowed_is_reported_once() {
    reports_one("swallows", &["swallower", "has heard of it, and goes on"]);
    assert!(reports("cleans up", "1").is_empty());
}

#[cfg(not(miri))]
#[test]
fn operation_that_is_dropped_in_flight_is_reported() {
    reports_one("drops", &["dropper", "an operation in flight was dropped"]);
}

#[cfg(not(miri))]
#[test]
fn error_that_nobody_looks_at_is_reported() {
    for role in ["fails unseen", "fails and is dropped"] {
        reports_one(role, &["failer", "nobody looked: no luck"]);
    }
    assert!(reports("fails and is seen", "1").is_empty());
}

#[cfg(not(miri))]
#[test]
fn group_that_is_left_undrained_is_reported() {
    reports_one(
        "drops a group",
        &["a task group was dropped by task", "1 of its tasks"],
    );
}

#[test]
fn runner_is_in_debug_mode_when_its_builder_says_so() {
    let world = World::sim();
    let mut runner = world.builder().debug(true).build().expect("sim");
    // Nothing to report, and nothing is left in what it remembers.
    runner.run(async {
        let task = begun(sleep(LONG)).await;
        task.cancel();
        task.await.expect_err("cancelled");
    });
    finish(runner);
    drop(Runner::builder().debug(false));
}

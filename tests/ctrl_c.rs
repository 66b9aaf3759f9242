//! Ctrl-C: each a process of its own, since it is about the main thread, which the usual harness
//! does not let tests have. A test whose name begins with a number re-creates that behaviour of
//! CPython's test_runners.

#![cfg(not(miri))]

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use coring::signal::{SignalKind, ctrl_c, signal};
use coring::{Runner, create_task, is_cancelled, sleep, yield_now};

/// Longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

const TESTS: [(&str, fn()); 5] = [
    (
        "b134_second_ctrl_c_ends_the_process",
        b134_second_ctrl_c_ends_the_process,
    ),
    ("b135_ctrl_c_cancels_main", b135_ctrl_c_cancels_main),
    (
        "ctrl_c_that_somebody_catches_is_theirs_alone",
        ctrl_c_that_somebody_catches_is_theirs_alone,
    ),
    (
        "ctrl_c_is_as_before_when_run_is_over",
        ctrl_c_is_as_before_when_run_is_over,
    ),
    (
        "runner_handles_no_signal_unless_it_is_told_to",
        runner_handles_no_signal_unless_it_is_told_to,
    ),
];

/// The part of a harness that these need: names to choose from, and their list.
fn main() {
    if let Ok(role) = std::env::var(ROLE) {
        return play(&role);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let lists = arguments.iter().any(|argument| argument == "--list");
    let chosen: Vec<&String> = arguments
        .iter()
        .filter(|word| !word.starts_with('-'))
        .collect();
    for (name, test) in TESTS {
        if !chosen.is_empty() && !chosen.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        if lists {
            println!("{name}: test");
            continue;
        }
        test(); // A panic fails them all.
        println!("test {name} ... ok");
    }
}

fn error_of<T>(result: io::Result<T>) -> io::Error {
    result.map(drop).expect_err("it should have failed")
}

const ROLE: &str = "CORING_TEST_ROLE";

/// This program once more, to do the part `role` of the test below on its main thread.
fn start(role: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().expect("it runs"))
        .args([
            "--exact",
            "plays_its_role",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    (child, output)
}

/// Waits for a line.
fn read_until(output: &mut BufReader<ChildStdout>, word: &str) {
    let mut line = String::new();
    while line.trim_end() != word {
        line.clear();
        let n = output.read_line(&mut line).expect("text");
        assert_ne!(n, 0, "it ended before it said {word}");
    }
}

fn interrupt(child: &Child) {
    // SAFETY: no pointers; the child has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
}

fn say(word: &str) {
    println!("{word}");
}

fn play(role: &str) {
    // Whoever has started the tests may have it ignored.
    // SAFETY: no pointers.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    // SAFETY: no pointers.
    let main_thread = unsafe { libc::gettid() == libc::getpid() };
    assert!(
        main_thread,
        "the harness runs a lone test on the main thread"
    );
    match role {
        "waits" => coring::run(async {
            say("ready");
            assert!(is_cancelled(&error_of(sleep(PATIENCE).await)));
            say("cancelled");
        }),
        "busy" => coring::run(async {
            say("ready");
            while yield_now().await.is_ok() {}
            say("cancelled");
        }),
        "twice" => coring::run(async {
            loop {
                say("ready");
                let _ = sleep(PATIENCE).await;
            }
        }),
        "catches" => coring::run(async {
            let mut interrupts = signal(SignalKind::interrupt()).expect("it can be caught");
            for _ in 0..3 {
                say("ready");
                interrupts.recv().await.expect("main is not cancelled");
                say("caught");
            }
            drop(interrupts);
            // Its own from here on.
            say("ready");
            assert!(is_cancelled(&error_of(sleep(PATIENCE).await)));
            say("cancelled");
        }),
        "awaits" => coring::run(async {
            let waits = create_task(ctrl_c());
            yield_now().await.expect("nobody cancels");
            say("ready");
            waits.await.expect("it came");
            say("caught");
        }),
        "again" => {
            for _ in 0..2 {
                coring::run(async {
                    say("ready");
                    assert!(is_cancelled(&error_of(sleep(PATIENCE).await)));
                    say("cancelled");
                });
            }
            say("over");
            // As if there had never been a runtime.
            #[expect(clippy::disallowed_methods, reason = "no driver is turning")]
            std::thread::sleep(PATIENCE);
        }
        "alone" => Runner::builder().build().expect("io_uring").run(async {
            say("ready");
            let _ = sleep(PATIENCE).await;
        }),
        role => panic!("nobody plays {role}"),
    }
}

fn b135_ctrl_c_cancels_main() {
    for role in ["waits", "busy"] {
        let (mut child, mut output) = start(role);
        read_until(&mut output, "ready");
        interrupt(&child);
        read_until(&mut output, "cancelled");
        assert!(child.wait().expect("it ends").success(), "{role}");
    }
}

fn b134_second_ctrl_c_ends_the_process() {
    let (mut child, mut output) = start("twice");
    read_until(&mut output, "ready");
    interrupt(&child);
    read_until(&mut output, "ready");
    interrupt(&child);
    assert_eq!(child.wait().expect("it ends").signal(), Some(libc::SIGINT));
}

fn ctrl_c_that_somebody_catches_is_theirs_alone() {
    let (mut child, mut output) = start("catches");
    for _ in 0..3 {
        read_until(&mut output, "ready");
        interrupt(&child);
        read_until(&mut output, "caught");
    }
    read_until(&mut output, "ready");
    interrupt(&child);
    read_until(&mut output, "cancelled");
    assert!(child.wait().expect("it ends").success());
    let (mut child, mut output) = start("awaits");
    read_until(&mut output, "ready");
    interrupt(&child);
    read_until(&mut output, "caught");
    assert!(child.wait().expect("it ends").success());
}

fn ctrl_c_is_as_before_when_run_is_over() {
    let (mut child, mut output) = start("again");
    for _ in 0..2 {
        read_until(&mut output, "ready");
        interrupt(&child);
        read_until(&mut output, "cancelled");
    }
    read_until(&mut output, "over");
    interrupt(&child);
    assert_eq!(child.wait().expect("it ends").signal(), Some(libc::SIGINT));
}

fn runner_handles_no_signal_unless_it_is_told_to() {
    let (mut child, mut output) = start("alone");
    read_until(&mut output, "ready");
    interrupt(&child);
    assert_eq!(child.wait().expect("it ends").signal(), Some(libc::SIGINT));
}

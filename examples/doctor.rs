//! What this machine's io_uring offers and refuses, which driver and flags coring would use and
//! why, and what to change.
//!
//! Run it with `cargo run --release --example doctor`. It ends with 1 if coring cannot run here.

use std::fs;
use std::process::ExitCode;

use coring::{Runner, Stats};
use io_uring::opcode;

/// Opcodes that came late, and since which kernel.
const NEWER: [(&str, u8, &str); 10] = [
    ("zero-copy send", opcode::SendZc::CODE, "6.0"),
    ("zero-copy sendmsg", opcode::SendMsgZc::CODE, "6.1"),
    ("multishot read", opcode::ReadMulti::CODE, "6.7"),
    ("waitid", opcode::WaitId::CODE, "6.7"),
    ("futex wait", opcode::FutexWait::CODE, "6.7"),
    ("ftruncate", opcode::Ftruncate::CODE, "6.9"),
    ("bind, listen", opcode::Bind::CODE, "6.11"),
    ("epoll wait", opcode::EpollWait::CODE, "6.15"),
    ("vectored fixed reads", opcode::ReadvFixed::CODE, "6.15"),
    ("pipe", opcode::Pipe::CODE, "6.16"),
];

fn main() -> ExitCode {
    println!("kernel             {}", read("/proc/sys/kernel/osrelease"));
    println!(
        "io_uring_disabled  {} (0: everybody may use it)",
        sysctl("io_uring_disabled")
    );
    let group = match sysctl("io_uring_group").as_str() {
        "-1" => "-1 (no group)".to_owned(),
        // Before Linux 6.6 there is no such setting.
        group if group.parse::<u32>().is_err() => group.to_owned(),
        group => format!("{group} (may use it where io_uring_disabled is 1)"),
    };
    println!("io_uring_group     {group}");
    println!("seccomp            {}", status("Seccomp"));
    for limit in ["Max locked memory", "Max open files", "Max processes"] {
        println!("{limit:<18} {}", limit_of(limit));
    }
    let runner = match Runner::builder().build() {
        Ok(runner) => runner,
        Err(unavailable) => {
            println!("\ncoring cannot run here.");
            println!("cause              {}", unavailable.reason);
            println!("remedy             {}", unavailable.remedy());
            return ExitCode::FAILURE;
        }
    };
    println!(
        "\ndriver             {} (CORING_DRIVER: auto or uring; the builder: sim, for tests)",
        runner.driver()
    );
    if let Some(features) = runner.features() {
        println!(
            "queues             {} to submit, {} to complete (the builder chooses)",
            features.sq_entries, features.cq_entries
        );
        println!("always             SINGLE_ISSUER, DEFER_TASKRUN, TASKRUN_FLAG, SUBMIT_ALL");
        offer("NO_SQARRAY", features.setup.no_sqarray, "6.6");
        offer("registered ring", features.registered_ring, "5.18");
        offer("absolute waits", features.abs_timer, "6.12");
        offer("no iowait", features.no_iowait, "6.15");
    }
    for (name, opcode, since) in NEWER {
        offer(name, runner.supports(opcode), since);
    }
    println!("worker threads     {} now", Stats::io_wq_workers());
    println!("\ncoring runs here.");
    ExitCode::SUCCESS
}

fn offer(name: &str, there: bool, since: &str) {
    let answer = if there { "yes" } else { "no" };
    println!("{name:<21}{answer:<4} (since Linux {since})");
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
}

fn sysctl(name: &str) -> String {
    read(&format!("/proc/sys/kernel/{name}"))
}

fn status(field: &str) -> String {
    let status = read("/proc/self/status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    match line.map(str::trim) {
        Some("0") => "no filter".to_owned(),
        Some(mode) => format!("mode {mode}: a filter may forbid io_uring"),
        None => "unknown".to_owned(),
    }
}

fn limit_of(name: &str) -> String {
    let limits = read("/proc/self/limits");
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    let words: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
    match words[..] {
        [soft, hard, unit] => format!("soft {soft}, hard {hard} {unit}"),
        _ => "unknown".to_owned(),
    }
}

//! On the process's main thread, SIGINT is caught unless an option says otherwise.

use std::fs;
use std::process::ExitCode;

/// Whether this process catches SIGINT (2) now.
fn catches() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    mask & 1 << (2 - 1) != 0
}

#[coring::main(ctrl_c = false)]
async fn without() -> bool {
    catches()
}

#[coring::main]
async fn by_default() -> bool {
    catches()
}

fn main() -> ExitCode {
    // In this order: the handler stays, and does as the default one where no run wants it.
    assert!(!without());
    assert!(by_default());
    ExitCode::SUCCESS
}

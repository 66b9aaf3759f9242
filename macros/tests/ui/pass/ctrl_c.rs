//! On the process's main thread, SIGINT is caught unless an option says otherwise.

use std::fs;
use std::process::ExitCode;

/// Whether SIGINT (2) is in a mask of this process now.
fn is_in(mask: &str) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix(mask));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    mask & 1 << (2 - 1) != 0
}

fn catches() -> bool {
    is_in("SigCgt:")
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
    if is_in("SigIgn:") {
        // Whoever has started this has it ignored (a shell, in the background): it is left so.
        eprintln!("SKIP ctrl_c: SIGINT is ignored");
        return ExitCode::SUCCESS;
    }
    // In this order: the handler stays, and does as the default one where no run wants it.
    assert!(!without());
    assert!(by_default());
    ExitCode::SUCCESS
}

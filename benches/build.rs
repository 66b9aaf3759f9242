//! Tells the programs the commit that they were built from.

use std::process::Command;

/// Papers and results may be edited while figures are taken; these make what is measured.
const SOURCES: [&str; 3] = ["*.rs", "*.toml", "*.lock"];

fn main() {
    // Any change of the workspace, and each commit.
    for part in [
        "benches",
        "runtime",
        "timer",
        "io",
        "src",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed=../{part}");
    }
    if let Some(log) = git(&[
        "rev-parse",
        "--path-format=absolute",
        "--git-path",
        "logs/HEAD",
    ]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let mut commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or("unknown".to_owned());
    let changed: Vec<String> = SOURCES.iter().map(|name| format!(":/{name}")).collect();
    let arguments: Vec<&str> = ["status", "--porcelain", "--"]
        .into_iter()
        .chain(changed.iter().map(String::as_str))
        .collect();
    if git(&arguments).is_some_and(|changes| !changes.is_empty()) {
        commit += "-dirty";
    }
    println!("cargo::rustc-env=CORING_COMMIT={commit}");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

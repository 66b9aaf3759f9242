//! Copies a file, with a progress bar on a terminal.
//!
//! Run it with `cargo run --release --example copy -- FROM TO`. (`coring::fs::copy` does it in one
//! call, without the bar.)

use std::io;
use std::process::ExitCode;

use coring::fs::{File, OpenOptions};
use coring::{BufResult, IoBuf, ok, run};
use indicatif::{ProgressBar, ProgressStyle};

async fn copy(from: &str, to: &str) -> io::Result<u64> {
    let source = File::open(from).await?;
    let what = source.metadata().await?;
    if what.is_dir() {
        return Err(invalid("the source is a directory"));
    }
    // Not emptied before it is known to be another file: a link may lead to the source.
    let mut target = OpenOptions::new().write(true).create(true).open(to).await?;
    let there = target.metadata().await?;
    if there.dev_ino() == what.dev_ino() {
        return Err(invalid("source and target are one file"));
    }
    if there.is_file() && there.len() > 0 {
        target = File::create(to).await?;
    }
    // Draws nothing where standard error is no terminal.
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}");
    let bar = ProgressBar::new(what.len()).with_style(style.map_err(io::Error::other)?);
    let (mut buf, mut offset) = (Vec::with_capacity(256 * 1024), 0);
    loop {
        let BufResult(n, back) = source.read_at(buf, offset).await;
        let n = n?;
        if n == 0 {
            break;
        }
        let BufResult(written, back) = target.write_all_at(back.slice(..n), offset).await;
        written?;
        buf = back.into_inner();
        offset += n as u64;
        bar.set_position(offset);
    }
    // A device or a pipe has no disk to reach, and says EINVAL.
    if there.is_file() {
        target.sync_all().await?;
    }
    bar.finish_and_clear();
    ok(offset)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = &arguments[..] else {
        eprintln!("usage: copy FROM TO");
        return ExitCode::from(2);
    };
    match run(copy(from, to)) {
        Ok(bytes) => {
            println!("{bytes} bytes copied");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("copy: {from} to {to}: {error}");
            ExitCode::FAILURE
        }
    }
}

//! Copies a file, with a progress bar on a terminal.
//!
//! Run it with `cargo run --release --example copy -- FROM TO`. (`coring::fs::copy` does it in one
//! call, without the bar.)

use std::io;
use std::process::ExitCode;

use coring::fs::File;
use coring::{BufResult, IoBuf, ok, run};
use indicatif::{ProgressBar, ProgressStyle};

async fn copy(from: &str, to: &str) -> io::Result<u64> {
    let source = File::open(from).await?;
    let total = source.metadata().await?.len();
    let target = File::create(to).await?;
    // Draws nothing where standard error is no terminal.
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}");
    let bar = ProgressBar::new(total).with_style(style.map_err(io::Error::other)?);
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
    target.sync_all().await?;
    bar.finish();
    ok(offset)
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

//! Writes files to standard output, one after the other.
//!
//! Run it with `cargo run --release --example cat -- FILE…`.

use std::io::{self, Write};
use std::process::ExitCode;

use coring::fs::File;
use coring::{BufResult, run};

async fn cat(path: &str, out: &mut impl Write) -> io::Result<()> {
    let file = File::open(path).await?;
    let mut buf = Vec::with_capacity(128 * 1024);
    let mut offset = 0;
    loop {
        let BufResult(n, back) = file.read_at(buf, offset).await;
        buf = back;
        match n? {
            0 => return out.flush(),
            n => offset += n as u64,
        }
        out.write_all(&buf)?;
    }
}

fn main() -> ExitCode {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        eprintln!("usage: cat FILE…");
        return ExitCode::from(2);
    }
    let mut failed = false;
    run(async {
        let mut out = io::stdout().lock();
        for path in &paths {
            if let Err(error) = cat(path, &mut out).await {
                eprintln!("cat: {path}: {error}");
                failed = true;
            }
        }
    });
    ExitCode::from(u8::from(failed))
}

//! The echo server, driven: coring, tokio and mio serve loopback clients by turns, on one core,
//! and each request is accounted for. Then what it costs to read a file in blocks.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use coring::{BufResult, run};
use coring_benches::{Case, Host, Schedule, Server, Workload, compare, round_robin, servers};
use tokio::io::AsyncReadExt;

const FILE_BYTES: u64 = 16 << 20;
const BLOCK_BYTES: usize = 4096;

const LEGEND: &str = "\
# CPU x tokio: CPU time as a ratio to tokio's in the same cycle, the median over the cycles
# quartiles:   a half of the cycles' ratios lie between these
# 95 %:        the median lies between these with that confidence
# p99 x:       the latency that 1 of 100 requests exceeds, as a ratio to tokio's
# n/a:         not counted here
";

const CLOSING: &str = "\
To read it: the ratios are of CPU time, and below 1 is cheaper than tokio, unless the 95 % range\n\
holds 1, too: then there is no difference to see; one connection is bound by the kernel's wake-ups.";

pub(crate) fn all() -> Result<(), Box<dyn Error>> {
    let host = Host::here();
    println!("{host}{LEGEND}");
    requests()?;
    blocks()?;
    println!("{CLOSING}");
    Ok(())
}

/// A table without its header on the machine, which is printed once, on top.
fn body(table: &str, host: &Host) -> String {
    table.replacen(&host.to_string(), "", 1)
}

fn requests() -> Result<(), Box<dyn Error>> {
    println!(
        "TCP echo of 64 bytes over loopback, a few seconds each. CPU is the server's time for each\n\
         request. With one connection each message is two sleeps and wake-ups, which cost all the\n\
         same; with more, a loop over io_uring makes few system calls.\n"
    );
    let all = [
        Server::thread("coring", servers::coring::streams)?,
        Server::thread("tokio", servers::tokio::serve)?,
        Server::thread("mio", servers::mio::serve)?,
    ];
    for connections in [1, 50] {
        let workload = Workload {
            connections,
            message_bytes: 64,
            cycles: 10,
            ..Workload::default()
        };
        let report = round_robin(&all, workload)?;
        println!("{}", body(&report.table(&["tokio"]), &report.host));
    }
    Ok(())
}

fn blocks() -> Result<(), Box<dyn Error>> {
    println!("Reading a file in the page cache in blocks of 4 KiB; lower CPU is better\n");
    let folder = std::env::temp_dir().join(format!("coring-echo-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("blocks");
    File::create(&path)?.write_all(&vec![7; FILE_BYTES as usize])?;
    let compared = {
        let mut cases = [
            Case::new("coring", |n| with_coring(&path, n)),
            Case::new("tokio::fs", |n| with_tokio(&path, n)),
        ];
        let schedule = Schedule {
            cycles: 10,
            window: Duration::from_millis(100),
            seed: 1,
        };
        compare(&mut cases, schedule)
    };
    std::fs::remove_dir_all(&folder)?;
    let compared = compared?;
    println!("{}", body(&compared.table("tokio::fs"), &compared.host));
    Ok(())
}

/// Reads `n` blocks.
fn with_coring(path: &Path, n: u64) -> io::Result<()> {
    run(async {
        let file = coring::fs::File::open(path).await?;
        let mut buf = Vec::with_capacity(BLOCK_BYTES);
        for block in 0..n {
            let offset = block * BLOCK_BYTES as u64 % FILE_BYTES;
            let BufResult(read, back) = file.read_at(buf, offset).await;
            read?;
            buf = back;
        }
        Ok(())
    })
}

/// Reads `n` blocks.
fn with_tokio(path: &Path, n: u64) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let mut file = tokio::fs::File::open(path).await?;
        // As coring's: one block to an operation, nothing read ahead.
        file.set_max_buf_size(BLOCK_BYTES);
        let mut buf = vec![0; BLOCK_BYTES];
        for _ in 0..n {
            if file.read(&mut buf).await? == 0 {
                file = tokio::fs::File::open(path).await?;
                file.set_max_buf_size(BLOCK_BYTES);
            }
        }
        Ok(())
    })
}

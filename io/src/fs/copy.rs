//! Copying a file.

use std::io;
use std::path::Path;

use coring_runtime::{BufResult, IoBuf};

use super::{File, OpenOptions};

/// Bytes in each of the reads and writes: past this larger ones gain nothing (page cache, M).
const CHUNK_BYTES: usize = 256 * 1024;

/// Permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;

/// Copies the content and the permissions of the file `from` to the file `to`, which is made, or
/// emptied if it is there. Gives the number of bytes.
///
/// # Cancel safety
///
/// Not cancel safe: a prefix may already be transferred.
///
/// # Errors
/// `InvalidInput` if both are the same file, or `from` is a directory; what opening, reading and
/// writing give. A copy that failed leaves what it had written.
///
/// # Examples
///
/// ```no_run
/// # coring::run(async {
/// let bytes = coring::fs::copy("/etc/hosts", "/tmp/hosts").await?;
/// # assert!(bytes > 0);
/// # coring::ok(()) }).unwrap();
/// ```
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let source = File::open(from).await?;
    let what = source.metadata().await?;
    if what.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the source is a directory",
        ));
    }
    let to = to.as_ref();
    let mut how = OpenOptions::new();
    how.write(true).create(true).mode(what.mode() & PERMISSIONS);
    // Emptied only when it is known to be another file.
    let target = how.open(to).await?;
    let there = target.metadata().await?;
    if there.dev_ino() == what.dev_ino() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "source and target are one file",
        ));
    }
    let target = if there.is_file() && there.len() > 0 {
        how.truncate(true).open(to).await?
    } else {
        target
    };
    // It was there, or the umask took some. Not of a device.
    if there.is_file() && there.mode() != what.mode() {
        target.set_mode(what.mode() & PERMISSIONS)?;
    }
    transfer(&source, &target).await
}

async fn transfer(source: &File, target: &File) -> io::Result<u64> {
    let mut offset = 0;
    let mut buf = Vec::with_capacity(CHUNK_BYTES);
    loop {
        let BufResult(read, back) = source.read_at(buf, offset).await;
        let n = read?;
        if n == 0 {
            return Ok(offset);
        }
        let BufResult(written, back) = target.write_all_at(back.slice(..n), offset).await;
        written?;
        buf = back.into_inner();
        offset += n as u64;
    }
}

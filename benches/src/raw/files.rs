//! Reads of 4 KiB at random places of a file, a fixed number at a time.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;

use io_uring::{opcode, types};

use super::Turns;

/// Bytes of a read, and what direct reads are aligned to.
pub const BLOCK_BYTES: usize = 4096;

/// A file, and a buffer for each read that can be in flight.
#[derive(Debug)]
pub struct Reader {
    file: File,
    blocks: u64,
    buffers: NonNull<u8>,
    depth: u32,
    in_flight: u32,
    random: fastrand::Rng,
}

impl Reader {
    /// Opens a file of whole blocks to be read `depth` blocks at a time, past the page cache if
    /// `direct`.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened, or has no block or no multiple of one.
    pub fn open(path: &Path, direct: bool, depth: u32) -> io::Result<Reader> {
        let flags = if direct { libc::O_DIRECT } else { 0 };
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)?;
        let bytes = file.metadata()?.len();
        if bytes == 0 || bytes % BLOCK_BYTES as u64 != 0 || depth == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let layout = layout(depth);
        // SAFETY: `depth` is not 0, so the layout is not empty.
        let buffers = NonNull::new(unsafe { alloc_zeroed(layout) })
            .unwrap_or_else(|| handle_alloc_error(layout));
        let blocks = bytes / BLOCK_BYTES as u64;
        let random = fastrand::Rng::with_seed(1);
        Ok(Reader {
            file,
            blocks,
            buffers,
            depth,
            in_flight: 0,
            random,
        })
    }

    /// Reads `operations` blocks; each completion is followed by the next read in the next enter.
    ///
    /// # Errors
    ///
    /// What the ring answers, or `UnexpectedEof` for a read that came back short.
    pub fn run(&mut self, turns: &mut Turns<'_>, operations: u64) -> io::Result<()> {
        let mut unsent = operations;
        for buffer in 0..u64::from(self.depth).min(operations) {
            self.read(turns, buffer)?;
            unsent -= 1;
        }
        while self.in_flight > 0 {
            turns.turn(1)?;
            while let Some(done) = turns.reap() {
                self.in_flight -= 1;
                match done.result() {
                    result if result == BLOCK_BYTES as i32 => {}
                    result if result < 0 => return Err(io::Error::from_raw_os_error(-result)),
                    _ => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
                if unsent > 0 {
                    unsent -= 1;
                    self.read(turns, done.user_data())?;
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn read(&mut self, turns: &mut Turns<'_>, buffer: u64) -> io::Result<()> {
        let start = self
            .buffers
            .as_ptr()
            .wrapping_add(buffer as usize * BLOCK_BYTES);
        let offset = self.random.u64(..self.blocks) * BLOCK_BYTES as u64;
        let read = opcode::Read::new(types::Fd(self.file.as_raw_fd()), start, BLOCK_BYTES as u32)
            .offset(offset)
            .build()
            .user_data(buffer);
        // SAFETY: `buffer` is below the depth, each is in one read at a time, and `Drop` leaks
        // them while a read is in flight.
        unsafe { turns.push(&read) }?;
        self.in_flight += 1;
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.in_flight == 0 {
            // SAFETY: allocated with this layout in `open`, and no read points into it.
            unsafe { dealloc(self.buffers.as_ptr(), layout(self.depth)) };
        }
    }
}

fn layout(depth: u32) -> Layout {
    Layout::from_size_align(depth as usize * BLOCK_BYTES, BLOCK_BYTES).expect("some pages")
}

//! What a file is.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What statx(2) says of a file.
#[derive(Clone)]
pub struct Metadata(Box<libc::statx>);

impl Metadata {
    pub(super) const fn new(statx: Box<libc::statx>) -> Self {
        Self(statx)
    }

    /// Its length in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "std's Metadata has none either"
    )]
    pub const fn len(&self) -> u64 {
        self.0.stx_size
    }

    /// Whether it is a regular file.
    pub const fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// Whether it is a directory.
    pub const fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    /// Its type and permission bits, as `st_mode`.
    pub const fn mode(&self) -> u32 {
        self.0.stx_mode as u32
    }

    /// The device that it is on, and its number there: together they tell files apart.
    pub const fn dev_ino(&self) -> (u64, u64) {
        (
            libc::makedev(self.0.stx_dev_major, self.0.stx_dev_minor),
            self.0.stx_ino,
        )
    }

    /// When its content last changed.
    pub fn modified(&self) -> SystemTime {
        time(self.0.stx_mtime)
    }

    /// When it was last read, as far as the file system keeps that.
    pub fn accessed(&self) -> SystemTime {
        time(self.0.stx_atime)
    }

    /// When it was made, if the file system knows.
    pub fn created(&self) -> Option<SystemTime> {
        (self.0.stx_mask & libc::STATX_BTIME != 0).then(|| time(self.0.stx_btime))
    }

    const fn kind(&self) -> libc::mode_t {
        self.0.stx_mode as libc::mode_t & libc::S_IFMT
    }
}

fn time(ts: libc::statx_timestamp) -> SystemTime {
    let nanos = Duration::from_nanos(ts.tv_nsec.into());
    match u64::try_from(ts.tv_sec) {
        Ok(secs) => UNIX_EPOCH + Duration::from_secs(secs) + nanos,
        Err(_) => UNIX_EPOCH - Duration::from_secs(ts.tv_sec.unsigned_abs()) + nanos,
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("len", &self.len())
            .field("mode", &format_args!("{:o}", self.mode()))
            .finish_non_exhaustive()
    }
}

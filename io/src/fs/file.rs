//! An open file.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use coring_runtime::{BufResult, IoBuf, IoBufMut, submit};
use io_uring::opcode::{Read, Write};

use super::Metadata;
use crate::ops::{Fill, Fsync, OpenAt, SharedFd, Statx};
use crate::transfer::{Place, drain, drain_all, fill_all};

/// How to open a file; like std's.
///
/// # Examples
///
/// ```no_run
/// use coring::fs::OpenOptions;
///
/// # coring::run(async {
/// let log = OpenOptions::new().append(true).create(true).open("/tmp/log").await?;
/// # drop(log);
/// # coring::ok(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    mode: libc::mode_t,
    custom_flags: i32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Nothing is set.
    pub const fn new() -> Self {
        Self {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            mode: 0o666,
            custom_flags: 0,
        }
    }

    /// To be read.
    pub const fn read(&mut self, read: bool) -> &mut Self {
        self.read = read;
        self
    }

    /// To be written.
    pub const fn write(&mut self, write: bool) -> &mut Self {
        self.write = write;
        self
    }

    /// To be written at its end, whatever the position.
    pub const fn append(&mut self, append: bool) -> &mut Self {
        self.append = append;
        self
    }

    /// To be emptied.
    pub const fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.truncate = truncate;
        self
    }

    /// To be made if it is not there.
    pub const fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// To be made; it is an error if it is there.
    pub const fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// Permissions of a file that is made, before the umask. By default 0o666.
    pub const fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// More flags of open(2), such as `O_DIRECT` or `O_NOFOLLOW`. Access modes are masked out.
    pub const fn custom_flags(&mut self, flags: i32) -> &mut Self {
        self.custom_flags = flags;
        self
    }

    /// Opens the file at `path`.
    ///
    /// A FIFO is not opened as open(2) does it, since io_uring tries without blocking first. To
    /// be read it opens at once, also if nobody writes to it yet; a read waits for that. Only to
    /// be written it fails with ENXIO as long as nobody reads from it, but with
    /// [`create`](Self::create) or [`truncate`](Self::truncate) a worker thread of the kernel's
    /// waits for a reader. (M, Linux 6.18)
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect, but that a file may have
    /// been made or emptied.
    ///
    /// # Errors
    /// `InvalidInput` for options that contradict each other, and a path with a NUL inside; what
    /// open(2) gives; [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit
    /// too.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        let open = OpenAt {
            path: CString::new(path.as_os_str().as_bytes())
                .map_err(|_| invalid("a path has a NUL inside"))?,
            flags: self.flags()?,
            mode: self.mode,
        };
        Ok(File::of(submit(open).await?))
    }

    fn flags(&self) -> io::Result<libc::c_int> {
        let access = match (self.read, self.write, self.append) {
            (true, false, false) => libc::O_RDONLY,
            (false, true, false) => libc::O_WRONLY,
            (true, true, false) => libc::O_RDWR,
            (false, _, true) => libc::O_WRONLY | libc::O_APPEND,
            (true, _, true) => libc::O_RDWR | libc::O_APPEND,
            (false, false, false) => {
                return Err(invalid("a file is opened neither to read nor to write"));
            }
        };
        let writes = self.write || self.append;
        if (self.truncate || self.create || self.create_new) && !writes {
            return Err(invalid(
                "a file that is made or emptied must be opened to write",
            ));
        }
        if self.truncate && self.append && !self.create_new {
            return Err(invalid("a file is opened both to append and to be emptied"));
        }
        let made = match (self.create, self.truncate, self.create_new) {
            (_, _, true) => libc::O_CREAT | libc::O_EXCL,
            (true, true, false) => libc::O_CREAT | libc::O_TRUNC,
            (true, false, false) => libc::O_CREAT,
            (false, true, false) => libc::O_TRUNC,
            (false, false, false) => 0,
        };
        let custom = self.custom_flags & !libc::O_ACCMODE;
        Ok(access | made | custom | libc::O_CLOEXEC)
    }
}

/// To io_uring an offset of -1 means "where the file is", and not an error as to pread(2).
fn check_offset(offset: u64) -> io::Result<()> {
    match i64::try_from(offset) {
        Ok(_) => Ok(()),
        Err(_) => Err(invalid("an offset is past the end of every file")),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// An open file. Reads and writes have positions of their own, and take `&self`.
///
/// Dropping it closes it, once no operation is in flight on it.
///
/// # Examples
///
/// ```
/// use coring::fs::OpenOptions;
/// use coring::BufResult;
///
/// # let path = std::env::temp_dir().join(format!("coring-doc-{}", std::process::id()));
/// # let path = &path;
/// # coring::run(async {
/// let file = OpenOptions::new().read(true).write(true).create(true).open(path).await?;
/// let BufResult(written, _) = file.write_all_at("hello", 0).await;
/// written?;
/// let BufResult(n, buf) = file.read_at(Vec::with_capacity(16), 1).await;
/// assert_eq!((n?, &buf[..]), (4, &b"ello"[..]));
/// assert_eq!(file.metadata().await?.len(), 5);
/// # coring::ok(()) }).unwrap();
/// # std::fs::remove_file(path).unwrap();
/// ```
pub struct File {
    fd: SharedFd,
}

impl File {
    fn of(fd: OwnedFd) -> Self {
        Self { fd: Rc::new(fd) }
    }

    /// Opens a file to be read. A FIFO opens at once, also without a writer: see
    /// [`OpenOptions::open`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// What open(2) gives; `InvalidInput` for a path with a NUL inside;
    /// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Makes a file to be written, or empties the one that is there. A FIFO waits for a reader:
    /// see [`OpenOptions::open`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect, but that the file may have
    /// been made or emptied.
    ///
    /// # Errors
    /// What open(2) gives; `InvalidInput` for a path with a NUL inside;
    /// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too.
    pub async fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .await
    }

    /// Reads what there is at `offset`, up to what `buf` has room for, into the start of `buf`.
    /// 0 is the end of the file (or a buffer without room).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it.
    ///
    /// # Errors
    /// What pread(2) gives, such as `InvalidInput` for an offset past `i64::MAX`;
    /// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too. A read that
    /// is on its way to the disk is waited for.
    pub async fn read_at<B: IoBufMut>(&self, buf: B, offset: u64) -> BufResult<usize, B> {
        if let Err(error) = check_offset(offset) {
            return BufResult(Err(error), buf);
        }
        let fd = self.fd.clone();
        let read = Fill {
            opcode: Read::CODE,
            fd,
            buf,
            off: offset,
        };
        submit(read).await
    }

    /// Reads at `offset` until `buf` is full.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, buffer lost: dropping abandons the operation; the buffer is freed when the
    /// kernel is done with it.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends first; else as [`read_at`](Self::read_at).
    pub async fn read_exact_at<B: IoBufMut>(&self, buf: B, offset: u64) -> BufResult<(), B> {
        let fill_some =
            async |done: usize, rest| self.read_at(rest, offset.saturating_add(done as u64)).await;
        fill_all(buf, fill_some).await
    }

    /// Writes at `offset` (a file opened to append: at its end): gives how many bytes of `buf`
    /// were written.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred.
    ///
    /// # Errors
    /// What pwrite(2) gives, such as `StorageFull`; [`Cancelled`](coring_runtime::Cancelled), or
    /// the time-out of a scope.
    pub async fn write_at<B: IoBuf>(&self, buf: B, offset: u64) -> BufResult<usize, B> {
        if let Err(error) = check_offset(offset) {
            return BufResult(Err(error), buf);
        }
        drain(&self.fd, Write::CODE, offset, 0, buf).await
    }

    /// Writes all of `buf` at `offset`.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a prefix may already be transferred. When it is cancelled, or fails,
    /// [`Partial`](coring_runtime::Partial) says how much was written.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub async fn write_all_at<B: IoBuf>(&self, buf: B, offset: u64) -> BufResult<(), B> {
        if let Err(error) = check_offset(offset) {
            return BufResult(Err(error), buf);
        }
        drain_all(&self.fd, Write::CODE, 0, Place::At(offset), buf).await
    }

    /// Has content and metadata reach the disk (fsync(2)). Goes to a worker thread of the
    /// kernel's, always.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect; the disk goes on.
    ///
    /// # Errors
    /// What fsync(2) gives. After an error, what of the writes has reached the disk is not known,
    /// and the next call may succeed all the same.
    pub async fn sync_all(&self) -> io::Result<()> {
        submit(Fsync {
            fd: self.fd.clone(),
            data_only: false,
        })
        .await
    }

    /// Has content reach the disk, and what metadata it needs to be read back (fdatasync(2)).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect; the disk goes on.
    ///
    /// # Errors
    /// As [`sync_all`](Self::sync_all).
    pub async fn sync_data(&self) -> io::Result<()> {
        submit(Fsync {
            fd: self.fd.clone(),
            data_only: true,
        })
        .await
    }

    /// What the file is (statx(2)). Goes to a worker thread of the kernel's, always: about 3 µs,
    /// against 0.4 µs of the plain call, which may block.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// What statx(2) gives.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        let out = Box::new(MaybeUninit::zeroed());
        submit(Statx {
            fd: self.fd.clone(),
            out,
        })
        .await
        .map(Metadata::new)
    }
}

impl File {
    /// Sets the permission bits: there is no operation for this, and it does not wait for a disk.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        // SAFETY: no memory is involved, and the descriptor is open as long as `self`.
        match unsafe { libc::fchmod(self.fd.as_raw_fd(), mode) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> Self {
        Self::of(file.into())
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> Self {
        Self::of(fd)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("fd", &self.fd).finish()
    }
}

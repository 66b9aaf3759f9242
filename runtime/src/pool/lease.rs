//! What was received, for as long as it is needed.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;

use super::BufPool;
use super::block::Block;
use crate::buf::IoBuf;

/// Up to here a copy costs less than a buffer that is shared.
const COPY_BYTES_MAX: usize = 2_048;

/// Bytes that have arrived, in the buffer into which the kernel received them.
///
/// They are read in place, and can be written from there: a lease is an [`IoBuf`]. The buffer goes
/// back to the runtime's pool when the last lease on it is dropped, so keep one no longer than the
/// bytes are worked with: [`into_bytes`](Self::into_bytes) is for those that are kept, or sent to
/// other threads. A lease that outlives its runtime is sound.
///
/// # Examples
///
/// ```
/// # use coring::net::{TcpListener, TcpStream};
/// # coring::run(async {
/// # let mut listener = TcpListener::bind("127.0.0.1:0")?;
/// # let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// # let (mut server, _) = listener.accept().await?;
/// client.write_all("hello world").await.0?;
/// let mut received = server.receive().await?;
/// let hello = received.split_to(5);
/// assert_eq!((&hello[..], &received[..]), (&b"hello"[..], &b" world"[..]));
/// received.advance(1);
/// let kept = received.into_bytes(); // For any thread, for any time.
/// assert_eq!(kept, "world");
/// # coring::ok(()) }).unwrap();
/// ```
pub struct Lease {
    start: NonNull<u8>,
    len: u32,
    source: Source,
}

enum Source {
    Nothing,
    Pool(BufPool, u16),
    /// Memory of its own, for when the pool had none.
    Own(Vec<u8>),
}

impl Lease {
    /// No bytes, of no buffer.
    pub const fn empty() -> Self {
        Self {
            start: NonNull::dangling(),
            len: 0,
            source: Source::Nothing,
        }
    }

    /// # Safety
    /// `len` bytes from `start` on are initialised bytes of buffer `bid` of the pool, the range is
    /// nobody else's, and it is counted there as a lease that this one is.
    pub(super) unsafe fn of_pool(pool: BufPool, bid: u16, start: NonNull<u8>, len: u32) -> Self {
        Self {
            start,
            len,
            source: Source::Pool(pool, bid),
        }
    }

    /// Takes the first `n` bytes off.
    ///
    /// # Panics
    /// If there are fewer.
    #[track_caller]
    pub fn split_to(&mut self, n: usize) -> Self {
        let head = Self {
            start: self.start,
            len: self.part(n),
            source: match &self.source {
                Source::Nothing => Source::Nothing,
                Source::Pool(pool, bid) => {
                    pool.0.borrow_mut().share(*bid);
                    Source::Pool(pool.clone(), *bid)
                }
                // The rest is looked at in place, so the head is what moves.
                Source::Own(_) => return self.copy_off(n),
            },
        };
        self.advance(n);
        head
    }

    fn copy_off(&mut self, n: usize) -> Self {
        let head = self[..n].to_vec().into();
        self.advance(n);
        head
    }

    /// Forgets the first `n` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    #[track_caller]
    pub fn advance(&mut self, n: usize) {
        self.len -= self.part(n);
        // SAFETY: `n` is at most the length that there was.
        self.start = unsafe { self.start.add(n) };
    }

    /// Forgets all but the first `n` bytes.
    pub fn truncate(&mut self, n: usize) {
        self.len = self.len.min(u32::try_from(n).unwrap_or(u32::MAX));
    }

    #[track_caller]
    fn part(&self, n: usize) -> u32 {
        assert!(n <= self.len as usize, "{n} bytes of {}", self.len);
        n as u32
    }

    /// The bytes for any thread and any time. More than 2 KiB are not copied: their buffer is
    /// detached, and the pool gets a fresh one in its place.
    ///
    /// A buffer has 64 KiB ([`Builder::buffer_bytes`](crate::Builder::buffer_bytes)), which stays
    /// allocated as long as any byte of it is kept. So copy what is kept for long:
    /// `Bytes::copy_from_slice(&lease)`.
    pub fn into_bytes(mut self) -> Bytes {
        let len = self.len as usize;
        if len <= COPY_BYTES_MAX {
            return Bytes::copy_from_slice(&self);
        }
        match std::mem::replace(&mut self.source, Source::Nothing) {
            Source::Nothing => Bytes::new(),
            Source::Own(vec) => {
                let at = self.start.addr().get() - vec.as_ptr().addr();
                Bytes::from(vec).slice(at..at + len)
            }
            Source::Pool(pool, bid) => {
                let mut state = pool.0.borrow_mut();
                // The pool sees that the block is shared when the last lease is back.
                let block = state.block_of(bid).clone();
                state.release(bid);
                let at = self.start.addr().get() - block.start().addr().get();
                Bytes::from_owner(Detached { block, at, len })
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Source::Pool(pool, bid) = &self.source {
            pool.0.borrow_mut().release(*bid);
        }
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: initialised bytes that the lease keeps alive (R1), of which nobody writes any while
        // it lives: the kernel writes behind them, and the buffer is not its own again before (R2).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// A lease on memory of its own.
///
/// # Panics
/// If there are 4 GiB or more.
impl From<Vec<u8>> for Lease {
    fn from(mut vec: Vec<u8>) -> Self {
        Self {
            len: u32::try_from(vec.len()).expect("less than 4 GiB"),
            start: NonNull::new(vec.as_mut_ptr()).expect("a vector's pointer is not null"),
            source: Source::Own(vec),
        }
    }
}

// SAFETY: the bytes are in a block that stays where it is while the lease is counted, or in a
// vector's, wherever the lease is moved; nobody writes to them.
unsafe impl IoBuf for Lease {
    fn stable_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len as usize
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("len", &self.len).finish()
    }
}

/// A range of a block that outlives its lease.
struct Detached {
    block: Arc<Block>,
    at: usize,
    len: usize,
}

impl AsRef<[u8]> for Detached {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range was a lease's, so it is within the block and initialised.
        let start = unsafe { self.block.start().add(self.at) };
        // SAFETY: as above, and nobody writes to it: a block that is shared is not given to the
        // kernel again (R2).
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.len) }
    }
}

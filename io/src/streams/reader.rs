//! A reader with a buffer.

use std::fmt;
use std::io;
use std::mem::{replace, take};
use std::task::{Context, Poll, ready};

use coring_runtime::{Lease, checkpoint};

use super::{IncompleteRead, LIMIT_BYTES, LimitOverrun};
use crate::net::receive::Receiver;

/// What a lease can hold.
const LEASE_BYTES_MAX: usize = u32::MAX as usize;

/// No line is longer, whatever limit is set: with its separator it has to fit into a lease.
const LIMIT_BYTES_MAX: usize = 1 << 31;

/// Room that is kept for what comes in pieces.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// Reads lines, numbers of bytes, or whatever has come (asyncio's `StreamReader`).
///
/// What has come stays in the reader until it is taken: a read that is dropped, cancelled or timed
/// out loses nothing. What is given is a [`Lease`], without a copy where it came in one piece. The
/// addresses of the connection are the writer's to tell, as in asyncio.
///
/// # Examples
///
/// ```
/// # use coring::net::UnixStream;
/// # coring::run(async {
/// # let (one, other) = UnixStream::pair()?;
/// # let (_, mut writer) = one.into_streams();
/// # let (mut reader, _) = other.into_streams();
/// writer.write("5\nhello");
/// let length = reader.readline().await?;
/// let n = std::str::from_utf8(&length).unwrap().trim().parse().unwrap();
/// assert_eq!(&reader.readexactly(n).await?[..], b"hello");
/// # coring::ok(()) }).unwrap();
/// ```
pub struct StreamReader {
    receiver: Receiver,
    /// What has come and is unread: in here where it came in several pieces …
    gathered: Vec<u8>,
    /// … of which so many bytes were read;
    taken: usize,
    /// and else in one piece, here.
    piece: Lease,
    eof: bool,
    /// The error by which the connection broke. The kernel tells it once, and the end after that.
    broken: Option<i32>,
    limit: usize,
}

impl StreamReader {
    pub(crate) const fn new(receiver: Receiver) -> Self {
        Self {
            receiver,
            gathered: Vec::new(),
            taken: 0,
            piece: Lease::empty(),
            eof: false,
            broken: None,
            limit: LIMIT_BYTES,
        }
    }

    /// How long what [`readuntil`](Self::readuntil) and [`readline`](Self::readline) give may be, in
    /// bytes, without the separator; by default 64 KiB, and never more than 2 GiB.
    ///
    /// # Panics
    /// If it is 0.
    pub fn set_limit(&mut self, bytes: usize) {
        assert!(bytes > 0, "a limit of no bytes");
        self.limit = bytes.min(LIMIT_BYTES_MAX);
    }

    /// What has come and is unread.
    pub fn buffer(&self) -> &[u8] {
        if self.gathered.is_empty() {
            &self.piece
        } else {
            &self.gathered[self.taken..]
        }
    }

    /// Waits for more, and gives all that is unread: as much as before at the end of the stream.
    ///
    /// For parsers that work in place; [`consume`](Self::consume) says what they have done with.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// What recv(2) gives, again each time; [`Cancelled`](coring_runtime::Cancelled) if it is asked to
    /// stop, by a limit too.
    pub async fn fill(&mut self) -> io::Result<&[u8]> {
        if self.is_over() {
            checkpoint()?;
            self.outcome()?;
        } else {
            let received = self.receiver.receive().await;
            self.filled(received)?;
        }
        Ok(self.buffer())
    }

    /// [`fill`](Self::fill), for hand-written futures: a wait that is given up counts as one that waits.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_over() {
            checkpoint()?;
            return Poll::Ready(self.outcome());
        }
        let received = ready!(self.receiver.poll_receive(cx));
        Poll::Ready(self.filled(received))
    }

    /// Whether nothing more will come.
    const fn is_over(&self) -> bool {
        self.eof || self.broken.is_some()
    }

    fn outcome(&self) -> io::Result<()> {
        let broken = self.broken.map(io::Error::from_raw_os_error);
        broken.map_or(Ok(()), Err)
    }

    fn filled(&mut self, received: io::Result<Lease>) -> io::Result<()> {
        let more = match received {
            Ok(more) => more,
            Err(error) => {
                self.broken = error.raw_os_error().filter(|&errno| !may_pass(errno));
                return Err(error);
            }
        };
        if more.is_empty() {
            self.eof = true;
        } else if self.buffer().is_empty() {
            self.gathered.clear();
            self.piece = more;
        } else {
            self.gather();
            self.gathered.extend_from_slice(&more);
        }
        Ok(())
    }

    /// Puts what is unread where more can be put behind it.
    fn gather(&mut self) {
        if self.gathered.is_empty() {
            self.gathered.extend_from_slice(&self.piece);
            self.piece = Lease::empty();
        } else if self.taken > 0 {
            self.gathered.drain(..self.taken);
        }
        self.taken = 0;
    }

    /// Forgets the first `n` bytes of what is unread.
    ///
    /// # Panics
    /// If there are fewer.
    #[track_caller]
    pub fn consume(&mut self, n: usize) {
        if self.gathered.is_empty() {
            self.piece.advance(n);
            if self.piece.is_empty() {
                self.piece = Lease::empty(); // Its buffer goes back now.
            }
            return;
        }
        assert!(
            n <= self.buffer().len(),
            "{n} bytes of {}",
            self.buffer().len()
        );
        self.taken += n;
        if self.taken == self.gathered.len() {
            self.taken = 0;
            if self.gathered.capacity() <= KEPT_BYTES_MAX {
                self.gathered.clear();
            } else {
                self.gathered = Vec::new();
            }
        }
    }

    /// Takes the first `n` bytes of what is unread.
    pub(super) fn take(&mut self, n: usize) -> Lease {
        if !self.gathered.is_empty() {
            let taken = if self.taken == 0 && n == self.gathered.len() {
                take(&mut self.gathered)
            } else {
                self.buffer()[..n].to_vec()
            };
            if !self.gathered.is_empty() {
                self.consume(n);
            }
            return taken.into();
        }
        if n == self.piece.len() {
            return replace(&mut self.piece, Lease::empty());
        }
        self.piece.split_to(n)
    }

    /// Takes what has come, `n` bytes at the most; waits if nothing has. Nothing is the end of the
    /// stream, or `n` is 0. (asyncio's `read(-1)` is [`read_to_end`](Self::read_to_end).)
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub async fn read(&mut self, n: usize) -> io::Result<Lease> {
        if n > 0 && self.buffer().is_empty() {
            self.fill().await?;
        } else {
            checkpoint()?;
        }
        let n = n.min(self.buffer().len()).min(LEASE_BYTES_MAX);
        Ok(self.take(n))
    }

    /// Takes all that comes until the stream ends. It all has to fit into memory.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect: what has come is still unread.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while !self.eof {
            self.fill().await?;
        }
        checkpoint()?;
        Ok(self.take_all())
    }

    /// Takes exactly `n` bytes.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect: what has come is still unread.
    ///
    /// # Errors
    /// [`IncompleteRead`] with what came if the stream ends first; `InvalidInput` for 4 GiB or more,
    /// which no lease can hold; else as [`fill`](Self::fill).
    pub async fn readexactly(&mut self, n: usize) -> io::Result<Lease> {
        checkpoint()?;
        if n > LEASE_BYTES_MAX {
            let text = format!("{n} bytes cannot be read at once");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        while self.buffer().len() < n {
            if self.eof {
                return Err(self.incomplete(Some(n)));
            }
            self.fill().await?;
        }
        Ok(self.take(n))
    }

    /// Takes everything up to `separator`, and that as well.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect: what has come is still unread.
    ///
    /// # Errors
    /// [`IncompleteRead`] with what came if the stream ends first; [`LimitOverrun`] if more than the
    /// limit comes before it, and what came stays in the reader; else as [`fill`](Self::fill).
    ///
    /// # Panics
    /// If the separator is empty.
    pub async fn readuntil(&mut self, separator: &[u8]) -> io::Result<Lease> {
        self.readuntil_any(&[separator]).await
    }

    /// Takes everything up to the end of whichever of `separators` ends first, and that as well; of
    /// those that end at the same place the longest counts.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect: what has come is still unread.
    ///
    /// # Errors
    /// As [`readuntil`](Self::readuntil).
    ///
    /// # Panics
    /// If there is no separator, or one is empty.
    pub async fn readuntil_any(&mut self, separators: &[&[u8]]) -> io::Result<Lease> {
        checkpoint()?;
        let n = self.find(separators).await?;
        if n > 0 {
            return Ok(self.take(n));
        }
        Err(self.incomplete(None))
    }

    /// Takes a line, with its `\n`; the last one may have none. Nothing is the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect: what has come is still unread.
    ///
    /// # Errors
    /// [`LimitOverrun`] if it is longer than the limit: then it is dropped, as far as it has come, and
    /// what still comes of it is the next line; else as [`fill`](Self::fill).
    pub async fn readline(&mut self) -> io::Result<Lease> {
        checkpoint()?;
        match self.find(&[b"\n"]).await {
            Ok(0) => {
                let rest = self.buffer().len();
                Ok(self.take(rest))
            }
            Ok(n) => Ok(self.take(n)),
            Err(error) => {
                if let Some(&LimitOverrun {
                    consumed, found, ..
                }) = LimitOverrun::of(&error)
                {
                    let rest = self.buffer().len();
                    self.consume(if found { consumed + 1 } else { rest });
                }
                Err(error)
            }
        }
    }

    /// Where the first separator ends, once there is one. 0: there is none before the end.
    async fn find(&mut self, separators: &[&[u8]]) -> io::Result<usize> {
        let longest = separators.iter().map(|separator| separator.len()).max();
        let longest = longest.expect("readuntil needs a separator");
        assert!(
            separators.iter().all(|separator| !separator.is_empty()),
            "a separator has at least one byte"
        );
        let mut searched = 0;
        loop {
            let unread = self.buffer();
            if let Some((begin, end)) = first_of(separators, unread, searched) {
                if begin > self.limit {
                    return Err(LimitOverrun::error(begin, true, self.limit));
                }
                return Ok(end);
            }
            // A separator may have begun at the end.
            searched = (unread.len() + 1).saturating_sub(longest);
            if searched > self.limit {
                return Err(LimitOverrun::error(searched, false, self.limit));
            }
            if self.eof {
                return Ok(0);
            }
            self.fill().await?;
        }
    }

    fn incomplete(&mut self, expected: Option<usize>) -> io::Error {
        IncompleteRead::error(self.take_all(), expected)
    }

    pub(super) fn take_all(&mut self) -> Vec<u8> {
        self.gather();
        take(&mut self.gathered)
    }

    /// Whether the stream has ended and everything was read.
    pub fn at_eof(&self) -> bool {
        self.eof && self.buffer().is_empty()
    }
}

/// Whether a receive may do better the next time.
const fn may_pass(errno: i32) -> bool {
    matches!(
        errno,
        libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM
    )
}

/// The separator that ends first, from `from` on: where it begins and ends.
fn first_of(separators: &[&[u8]], bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let found = separators.iter().filter_map(|separator| {
        let at = memchr::memmem::find(&bytes[from..], separator)? + from;
        Some((at, at + separator.len()))
    });
    found.min_by_key(|&(begin, end)| (end, begin))
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader")
            .field("unread", &self.buffer().len())
            .field("eof", &self.eof)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

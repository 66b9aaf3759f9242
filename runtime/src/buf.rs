//! Buffers that the kernel may own: what is lent moves in and comes back in every case.

use std::ops::{Bound, Deref, DerefMut, RangeBounds};
use std::rc::Rc;
use std::sync::Arc;
use std::{fmt, io};

/// The most bytes that Linux transfers in one call (`MAX_RW_COUNT`); longer buffers are used up
/// to here, and the rest is a short transfer. Source: read(2), "NOTES".
pub const TRANSFER_MAX: usize = 0x7fff_f000;

/// A result and what was lent for it, which comes back in every case.
///
/// There is no `?` on the whole, on purpose: it would throw the buffer away. (The compiler says
/// "the `?` operator can only be applied to values that implement `Try`".) Take it apart; or use
/// [`ok`](Self::ok) where the buffer is of no use after an error, as in `stream.read(buf).await.ok()?`,
/// and `.0?` where it is of none at all.
///
/// # Examples
///
/// ```
/// # use coring::BufResult;
/// # fn main() -> std::io::Result<()> {
/// # let read = |buf| BufResult(Ok::<usize, std::io::Error>(3), buf);
/// let BufResult(result, buf) = read(vec![1u8, 2, 3]);
/// let n = result?;
/// assert_eq!(&buf[..n], [1, 2, 3]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "the result may be an error, and the buffer is in here"]
pub struct BufResult<T, B>(pub io::Result<T>, pub B);

impl<T, B> BufResult<T, B> {
    /// Applies `f` to the value, leaves an error and the buffer as they are.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> BufResult<U, B> {
        BufResult(self.0.map(f), self.1)
    }

    /// Applies `f` to what was lent.
    pub fn map_buf<C>(self, f: impl FnOnce(B) -> C) -> BufResult<T, C> {
        BufResult(self.0, f(self.1))
    }

    /// Value and buffer, or the error alone: for when the buffer is of no more use then.
    ///
    /// # Errors
    /// The operation's.
    pub fn ok(self) -> io::Result<(T, B)> {
        let Self(result, buf) = self;
        result.map(|value| (value, buf))
    }
}

/// A buffer whose bytes the kernel may read while an operation is in flight.
///
/// It is owned, or static: what is borrowed of a variable may be gone before the kernel has read it.
/// So `&vec` is no `IoBuf`, nor is an array; and of `&vec[..]` the compiler says that it "does not live
/// long enough", and is "borrowed for `'static`". Give the `Vec`, which comes back; a copy, by
/// `to_vec`; or a part of it, by [`slice`](Self::slice).
///
/// ```compile_fail,E0597
/// # use coring::net::TcpStream;
/// # async fn send(stream: &mut TcpStream) -> std::io::Result<()> {
/// let buf = b"hello".to_vec();
/// stream.write_all(&buf[..]).await.0 // `buf` does not live long enough.
/// # }
/// ```
///
/// ```no_run
/// # use coring::net::TcpStream;
/// # async fn send(stream: &mut TcpStream) -> std::io::Result<()> {
/// let buf = b"hello".to_vec();
/// let ((), _buf) = stream.write_all(buf).await.ok()?; // The same one.
/// # Ok(()) }
/// # let _ = send;
/// ```
///
/// # Safety
///
/// * `stable_ptr()..stable_ptr() + bytes_init()` is initialised memory that this value owns or
///   that is `'static`;
/// * it stays where it is, allocated and unchanged, until the value is dropped or given `&mut`
///   to somebody, **also when the value itself is moved** (so an array or a `SmallVec` is no
///   `IoBuf`);
/// * both methods give the same answer as long as nobody has had `&mut` access.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be lent to the kernel",
    label = "not an owned buffer",
    note = "buffers are owned: give a `Vec<u8>` (`to_vec()` makes a copy), a `Box<[u8]>`, a `String` or \
            static bytes; what was lent comes back in the `BufResult`"
)]
pub unsafe trait IoBuf: 'static {
    /// Where the bytes are.
    fn stable_ptr(&self) -> *const u8;

    /// How many of them are initialised.
    fn bytes_init(&self) -> usize;

    /// The initialised bytes.
    fn as_init(&self) -> &[u8] {
        // SAFETY: the trait's contract: initialised, owned by `self`, not changed while borrowed.
        unsafe { std::slice::from_raw_parts(self.stable_ptr(), self.bytes_init()) }
    }

    /// A window on this buffer, by byte positions; an operation on it uses these bytes only.
    ///
    /// # Panics
    /// If the range ends before it begins, or begins past the initialised bytes: a read into it
    /// would leave a gap. It may end anywhere; what lies past the buffer is cut off.
    #[track_caller]
    fn slice(self, range: impl RangeBounds<usize>) -> Slice<Self>
    where
        Self: Sized,
    {
        Slice::new(self, range)
    }
}

/// A buffer that the kernel may write to while an operation is in flight.
///
/// # Safety
///
/// * `stable_mut_ptr()..stable_mut_ptr() + bytes_total()` is writable memory that this value
///   alone owns, which stays where it is as [`IoBuf`] says;
/// * `stable_mut_ptr()` and `stable_ptr()` are the same address, `bytes_init() <= bytes_total()`.
#[diagnostic::on_unimplemented(
    message = "the kernel cannot write into `{Self}`",
    label = "not an owned buffer that can be written to",
    note = "buffers are owned: give a `Vec<u8>` (with capacity) or a `Box<[u8]>`; what was lent comes \
            back in the `BufResult`"
)]
pub unsafe trait IoBufMut: IoBuf {
    /// Where the bytes are.
    fn stable_mut_ptr(&mut self) -> *mut u8;

    /// How many there is room for.
    fn bytes_total(&self) -> usize;

    /// Says that the first `len` bytes hold data now. A `Vec`'s length becomes `len`; a buffer
    /// of fixed length ignores it.
    ///
    /// # Safety
    /// The first `len` bytes are initialised, and `len <= bytes_total()`.
    unsafe fn set_init(&mut self, len: usize);

    /// Copies bytes to the start, as many as there is room for, as a read would. Gives how many.
    fn fill_from(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.bytes_total());
        let start = self.stable_mut_ptr();
        // SAFETY: there is room for `n` bytes, which are this buffer's alone.
        unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), n) };
        // SAFETY: they are initialised by that.
        unsafe { self.set_init(n) };
        n
    }
}

// SAFETY: the heap block of a Vec stays where it is when the Vec moves; `len` bytes of it are
// initialised, `capacity` bytes are its own.
unsafe impl IoBuf for Vec<u8> {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; `capacity` bytes are writable.
unsafe impl IoBufMut for Vec<u8> {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    fn bytes_total(&self) -> usize {
        self.capacity()
    }

    unsafe fn set_init(&mut self, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.set_len(len) };
    }
}

// SAFETY: the heap block of a Box stays where it is when the Box moves.
unsafe impl IoBuf for Box<[u8]> {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; all of it is writable and always initialised.
unsafe impl IoBufMut for Box<[u8]> {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    fn bytes_total(&self) -> usize {
        self.len()
    }

    unsafe fn set_init(&mut self, _: usize) {}
}

// SAFETY: static memory does not move, and nobody can write it.
unsafe impl IoBuf for &'static [u8] {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above.
unsafe impl<const N: usize> IoBuf for &'static [u8; N] {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        N
    }
}

// SAFETY: a shared block on the heap stays where it is while a reference is counted, and nobody
// can write it.
unsafe impl IoBuf for Rc<[u8]> {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above. (`Arc::get_mut` and the like need the only reference, which the operation has
// a part of.)
unsafe impl IoBuf for Arc<[u8]> {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above.
unsafe impl IoBuf for &'static str {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: the heap block of a String stays where it is when the String moves.
unsafe impl IoBuf for String {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

/// A window on a buffer: made by [`IoBuf::slice`], taken apart by [`Slice::into_inner`].
///
/// Its bounds count from the start of the buffer. A read into the window of a `Vec` ends the `Vec`
/// with what was read: bytes behind it are no longer counted. So a buffer is appended to by
/// lending what is behind its data:
///
/// ```
/// # use coring::net::{TcpListener, TcpStream};
/// # use coring::{BufResult, IoBuf, run};
/// # run(async {
/// # let mut listener = TcpListener::bind("127.0.0.1:0")?;
/// # let mut stream = TcpStream::connect(listener.local_addr()?).await?;
/// # listener.accept().await?.0.write_all("world").await.0?;
/// let mut buf = b"hello ".to_vec();
/// let start = buf.len();
/// buf.reserve(512);
/// let BufResult(n, slice) = stream.read(buf.slice(start..)).await;
/// buf = slice.into_inner();
/// assert_eq!((n?, &buf[..]), (5, &b"hello world"[..]));
/// # coring::ok(()) }).unwrap();
/// ```
pub struct Slice<B> {
    buf: B,
    begin: usize,
    end: usize,
}

impl<B: IoBuf> Slice<B> {
    #[track_caller]
    fn new(buf: B, range: impl RangeBounds<usize>) -> Self {
        let begin = match range.start_bound() {
            Bound::Included(&begin) => begin,
            Bound::Excluded(&begin) => begin.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => usize::MAX,
        };
        assert!(
            begin <= end,
            "slice of a buffer begins at {begin} but ends at {end}"
        );
        let len = buf.bytes_init();
        assert!(
            begin <= len,
            "slice of a buffer begins at {begin}, past its {len} bytes"
        );
        Self { buf, begin, end }
    }
}

impl<B> Slice<B> {
    /// The whole buffer again.
    pub fn into_inner(self) -> B {
        self.buf
    }

    /// The whole buffer.
    pub fn get_ref(&self) -> &B {
        &self.buf
    }

    /// How much of the window lies in the first `len` bytes of the buffer.
    fn within(&self, len: usize) -> usize {
        self.end.min(len).saturating_sub(self.begin)
    }
}

// SAFETY: a part of what the inner buffer promises; `within` never passes its end.
unsafe impl<B: IoBuf> IoBuf for Slice<B> {
    fn stable_ptr(&self) -> *const u8 {
        // SAFETY: `begin` is at most the inner buffer's length (`new`), which never shrinks
        // below it: nobody gets `&mut` to it, and `set_init` only adds to `begin`.
        unsafe { self.buf.stable_ptr().add(self.begin) }
    }

    fn bytes_init(&self) -> usize {
        self.within(self.buf.bytes_init())
    }
}

// SAFETY: as above.
unsafe impl<B: IoBufMut> IoBufMut for Slice<B> {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        // SAFETY: as in `stable_ptr`.
        unsafe { self.buf.stable_mut_ptr().add(self.begin) }
    }

    fn bytes_total(&self) -> usize {
        self.within(self.buf.bytes_total())
    }

    unsafe fn set_init(&mut self, len: usize) {
        // SAFETY: bytes up to `begin` are initialised (`new`), the caller did the rest.
        unsafe { self.buf.set_init(self.begin + len) };
    }
}

impl<B: IoBuf> Deref for Slice<B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_init()
    }
}

impl<B: IoBufMut> DerefMut for Slice<B> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.bytes_init();
        // SAFETY: the first `bytes_init` bytes of the window are initialised and ours alone.
        unsafe { std::slice::from_raw_parts_mut(self.stable_mut_ptr(), len) }
    }
}

impl<B: IoBuf> fmt::Debug for Slice<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slice")
            .field("begin", &self.begin)
            .field("bytes_init", &self.bytes_init())
            .finish_non_exhaustive()
    }
}

/// Length of a transfer as the kernel's fields hold it: the one clamp, at [`TRANSFER_MAX`].
pub fn transfer_len(bytes: usize) -> u32 {
    // TRANSFER_MAX fits into 32 bits.
    bytes.min(TRANSFER_MAX) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slice_of_slice_stays_inside_of_its_buffer() {
        let mut slice = vec![1u8, 2, 3, 4, 5].slice(1..4).slice(1..);
        assert_eq!(&*slice, [3, 4]);
        slice[0] = 9;
        assert_eq!(slice.into_inner().into_inner(), [1, 2, 9, 4, 5]);
        let empty = vec![1u8, 2].slice(2..9);
        assert_eq!((empty.bytes_init(), empty.len()), (0, 0));
    }

    #[test]
    fn slice_into_spare_capacity_sets_the_length_behind_it() {
        let mut buf = Vec::with_capacity(8);
        buf.extend_from_slice(b"ab");
        let mut slice = buf.slice(2..6);
        assert_eq!((slice.bytes_init(), slice.bytes_total()), (0, 4));
        // SAFETY: three bytes inside of the window are written before they are claimed.
        unsafe {
            slice
                .stable_mut_ptr()
                .copy_from_nonoverlapping(b"cde".as_ptr(), 3);
            slice.set_init(3);
        }
        assert_eq!(slice.into_inner(), b"abcde");
    }

    #[test]
    #[should_panic(expected = "begins at 4, past its 0 bytes")]
    fn slice_past_the_initialised_bytes_is_refused() {
        let _ = Vec::<u8>::with_capacity(8).slice(4..);
    }

    #[test]
    fn transfer_len_clamps_at_the_kernels_limit() {
        assert_eq!(transfer_len(7), 7);
        assert_eq!(transfer_len(TRANSFER_MAX) as usize, TRANSFER_MAX);
        assert_eq!(transfer_len(TRANSFER_MAX + 1) as usize, TRANSFER_MAX);
        assert_eq!(transfer_len(usize::MAX) as usize, TRANSFER_MAX);
    }
}

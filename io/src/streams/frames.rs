//! Frames: a length, and so many bytes behind it.

use std::io;

use coring_runtime::{Lease, checkpoint};

use super::{IncompleteRead, StreamReader, StreamWriter};

/// What says how long a frame is: four bytes, the highest first.
const LENGTH_BYTES: usize = 4;

impl StreamReader {
    /// Takes a frame: a length of four bytes, the highest first, and so many bytes behind it, which are
    /// given. `None`: the stream has ended, and not in the middle of one.
    ///
    /// What is kept meanwhile grows with what has come, not with what the length says.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect: what has come is still unread.
    ///
    /// # Errors
    /// `InvalidData` for a length of more than `max_bytes`, which stays unread;
    /// [`IncompleteRead`] with what came if the stream ends within a frame; else as
    /// [`fill`](Self::fill).
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::net::UnixStream;
    ///
    /// # coring::run(async {
    /// let (one, other) = UnixStream::pair()?;
    /// let (_, mut writer) = one.into_streams();
    /// let (mut reader, _) = other.into_streams();
    /// writer.write_frame("hello");
    /// writer.write_frame([]);
    /// drop(writer);
    /// assert_eq!(reader.read_frame(1_024).await?.as_deref(), Some(&b"hello"[..]));
    /// assert_eq!(reader.read_frame(1_024).await?.as_deref(), Some(&b""[..]));
    /// assert!(reader.read_frame(1_024).await?.is_none());
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub async fn read_frame(&mut self, max_bytes: usize) -> io::Result<Option<Lease>> {
        checkpoint()?;
        loop {
            let unread = self.buffer();
            if let Some(length) = unread.first_chunk::<LENGTH_BYTES>() {
                let length = u32::from_be_bytes(*length) as usize;
                if length > max_bytes {
                    let text = format!("a frame of {length} bytes, {max_bytes} at the most");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                if unread.len() - LENGTH_BYTES >= length {
                    self.consume(LENGTH_BYTES);
                    return Ok(Some(self.take(length)));
                }
            }
            let before = unread.len();
            if self.fill().await?.len() == before {
                return match before {
                    0 => Ok(None),
                    _ => Err(IncompleteRead::error(self.take_all(), None)),
                };
            }
        }
    }
}

impl StreamWriter {
    /// Has a frame sent, for [`read_frame`](StreamReader::read_frame): a length of four bytes, the
    /// highest first, and a copy of the bytes.
    ///
    /// # Panics
    /// If there are 4 GiB or more; outside of a runtime.
    pub fn write_frame(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let length = u32::try_from(bytes.len()).expect("a frame has less than 4 GiB");
        self.write(&length.to_be_bytes());
        self.write(bytes);
    }
}

//! asyncio's streams: a reader with a buffer, a writer that never blocks, and servers of them.

mod connect;
mod errors;
mod frames;
mod reader;
mod server;
mod writer;

pub use connect::{open_connection, open_unix_connection};
pub use errors::{IncompleteRead, LimitOverrun};
pub use reader::StreamReader;
pub use server::{
    HandlerOutput, Server, ServerBuilder, ServerReport, start_server, start_unix_server,
};
pub use writer::{StreamWriter, Writable};

use crate::net::{Kind, Stream};

/// What a reader takes in one line at the most, unless it is given another limit: as asyncio's.
pub const LIMIT_BYTES: usize = 64 * 1024;

impl<K: Kind> Stream<K> {
    /// The connection as asyncio has it: a reader with a buffer, and a writer that sends in the
    /// background. It is closed when both are dropped, after what was written.
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
    /// writer.write("first line\nsecond");
    /// drop(writer);
    /// assert_eq!(&reader.readline().await?[..], b"first line\n");
    /// assert_eq!(&reader.readline().await?[..], b"second");
    /// assert!(reader.at_eof());
    /// # coring::ok(()) }).unwrap();
    /// ```
    pub fn into_streams(self) -> (StreamReader, StreamWriter) {
        let (fd, receiver) = self.into_parts();
        (StreamReader::new(receiver), StreamWriter::new(fd))
    }
}

//! How a read of a certain length or up to a separator fails.

use std::error::Error;
use std::fmt;
use std::io;

/// The stream ended before what was asked for had come. It is inside of an [`io::Error`] of kind
/// `UnexpectedEof`; [`of`](Self::of) finds it there.
#[derive(Debug)]
#[non_exhaustive]
pub struct IncompleteRead {
    /// What had come. It is taken out of the reader.
    pub partial: Vec<u8>,
    /// How many bytes were asked for, if it was a number.
    pub expected: Option<usize>,
}

impl IncompleteRead {
    pub(super) fn error(partial: Vec<u8>, expected: Option<usize>) -> io::Error {
        let incomplete = Self { partial, expected };
        io::Error::new(io::ErrorKind::UnexpectedEof, incomplete)
    }

    /// The one inside of `error`.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The one inside of `error`, taken out.
    ///
    /// # Errors
    /// `error` as it was, if there is none.
    pub fn from_error(error: io::Error) -> Result<Self, io::Error> {
        error.downcast()
    }
}

impl fmt::Display for IncompleteRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = self.partial.len();
        match self.expected {
            Some(expected) => write!(f, "the stream ended after {read} bytes of {expected}"),
            None => write!(
                f,
                "the stream ended after {read} bytes, without a separator"
            ),
        }
    }
}

impl Error for IncompleteRead {}

/// There was no separator within the reader's limit. It is inside of an [`io::Error`] of kind
/// `InvalidData`; [`of`](Self::of) finds it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitOverrun {
    /// Bytes before the separator, or looked through without finding one. They are still in the
    /// reader, but after [`readline`](super::StreamReader::readline).
    pub consumed: usize,
    /// Whether a separator is behind them.
    pub found: bool,
    /// The reader's limit.
    pub limit: usize,
}

impl LimitOverrun {
    pub(super) fn error(consumed: usize, found: bool, limit: usize) -> io::Error {
        let overrun = Self {
            consumed,
            found,
            limit,
        };
        io::Error::new(io::ErrorKind::InvalidData, overrun)
    }

    /// The one inside of `error`.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for LimitOverrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            consumed, limit, ..
        } = self;
        if self.found {
            write!(
                f,
                "the separator comes after {consumed} bytes, past the limit of {limit}"
            )
        } else {
            write!(
                f,
                "no separator in {consumed} bytes, past the limit of {limit}"
            )
        }
    }
}

impl Error for LimitOverrun {}

//! What holds of the parser for any bytes: it gives the same commands however they arrive. The
//! tests look at it, and so does the fuzz target in `fuzz/`.

use crate::resp::{Parser, ProtocolError};

/// What was parsed until no whole command was left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) commands: Vec<Vec<Vec<u8>>>,
    /// Bytes at the end that are no whole command.
    pub(crate) left: usize,
    pub(crate) error: Option<ProtocolError>,
}

/// Parses what arrives in these pieces, as a connection does.
pub(crate) fn parse_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Parsed {
    let mut parser = Parser::default();
    let mut input = Vec::new();
    let mut parsed = Parsed::default();
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut begin = 0;
        loop {
            match parser.parse(&input[begin..]) {
                Ok(Some(command)) => {
                    assert!(
                        command.len > 0,
                        "a command that takes nothing comes for ever"
                    );
                    let args: Vec<_> = command.args.from(0).map(<[u8]>::to_vec).collect();
                    assert_eq!(args.len(), command.args.len());
                    begin += command.len;
                    parsed.commands.push(args);
                }
                Ok(None) => break,
                Err(error) => {
                    let mut reply = Vec::new();
                    error.write(&mut reply);
                    assert!(reply.starts_with(b"-ERR Protocol error: "));
                    assert_eq!(
                        reply.iter().position(|&b| b == b'\n'),
                        Some(reply.len() - 1)
                    );
                    parsed.error = Some(error);
                    return parsed;
                }
            }
        }
        input.drain(..begin);
    }
    parsed.left = input.len();
    parsed
}

/// Parses `bytes` whole, byte by byte, and cut in two where `cut` says: always the same.
pub(crate) fn check(bytes: &[u8], cut: usize) -> Parsed {
    let whole = parse_pieces([bytes]);
    assert_eq!(whole, parse_pieces(bytes.chunks(1)), "byte by byte");
    let (front, back) = bytes.split_at(cut.min(bytes.len()));
    assert_eq!(whole, parse_pieces([front, back]), "cut at {cut}");
    whole
}

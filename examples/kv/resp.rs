//! RESP, the protocol of Redis: takes commands apart, and writes replies.
//!
//! Over bytes alone, without I/O: what arrives in pieces is given again with more behind it, and
//! the parser goes on where it stopped. Arguments are ranges of the input, so a command is not
//! copied, and nothing is allocated for it once the list of ranges has its size.

use std::ops::{Index, Range};

/// Bytes of a line, that is of an inline command or of a length, as in Redis.
pub(crate) const LINE_MAX: usize = 64 * 1024;
/// Bytes of an argument, as in Redis (`proto-max-bulk-len`).
pub(crate) const BULK_MAX: usize = 512 << 20;
/// Arguments of a command, as in Redis.
const ARGS_MAX: i64 = i32::MAX as i64;
/// Ranges that are kept from one command to the next: a command of a million arguments is rare.
const KEPT_MAX: usize = 1024;

/// Takes commands apart.
///
/// | State    | Waits for                     | Then                              |
/// |----------|-------------------------------|-----------------------------------|
/// | `Start`  | `*COUNT\r\n`                  | `Length`                          |
/// |          | any other line                | the command is whole: `Start`     |
/// | `Length` | nothing, if none is missing   | the command is whole: `Start`     |
/// |          | `$LENGTH\r\n`                 | `Bulk`                            |
/// | `Bulk`   | so many bytes, and `\r\n`     | `Length`, with one missing less   |
///
/// An error ends the connection: the parser is of no use behind one.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    state: State,
    /// Where it goes on: what lies before has been taken in.
    at: usize,
    /// No line ends between `at` and here. Else a line that arrives in many pieces would be
    /// searched from its start for each of them.
    searched: usize,
    args: Vec<Range<usize>>,
    /// The arguments of an inline command, without their quotes.
    unquoted: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Start,
    Length {
        missing: usize,
    },
    Bulk {
        missing: usize,
        len: usize,
    },
}

/// A command that has arrived as a whole.
#[derive(Debug)]
pub(crate) struct Command<'a> {
    /// Its name and its arguments; empty for an empty line or array, which is no command.
    pub(crate) args: Args<'a>,
    /// Bytes of the input that it took.
    pub(crate) len: usize,
}

/// A command's name, which is the first, and its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Args<'a> {
    pub(crate) fn len(self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn get(self, index: usize) -> Option<&'a [u8]> {
        self.ranges
            .get(index)
            .map(|range| &self.bytes[range.clone()])
    }

    /// Those from the one with this index on.
    pub(crate) fn from(self, first: usize) -> impl Iterator<Item = &'a [u8]> + Clone {
        let ranges = self.ranges.get(first..).unwrap_or_default();
        ranges.iter().map(move |range| &self.bytes[range.clone()])
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    fn index(&self, index: usize) -> &[u8] {
        &self.bytes[self.ranges[index].clone()]
    }
}

/// What is no command. The connection ends with it, since nobody knows where the next one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolError {
    LongInline,
    LongCount,
    LongLength,
    Count,
    Length,
    NoLength(u8),
    Quotes,
}

impl ProtocolError {
    /// Redis's words.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let text = match self {
            Self::LongInline => "too big inline request",
            Self::LongCount => "too big mbulk count string",
            Self::LongLength => "too big bulk count string",
            Self::Count => "invalid multibulk length",
            Self::Length => "invalid bulk length",
            Self::NoLength(_) => "expected '$', got '",
            Self::Quotes => "unbalanced quotes in request",
        };
        let found = match &self {
            Self::NoLength(byte) => &[*byte, b'\''][..],
            _ => b"",
        };
        error(out, [b"ERR Protocol error: ", text.as_bytes(), found]);
    }
}

impl Parser {
    /// The command that `input` starts with, or `None` as long as a part of it is missing. Then
    /// the next call gets the same bytes and those that have come since.
    pub(crate) fn parse<'a>(
        &'a mut self,
        input: &'a [u8],
    ) -> Result<Option<Command<'a>>, ProtocolError> {
        loop {
            match self.state {
                State::Start => {
                    match input.first() {
                        None => return Ok(None),
                        Some(b'*') => {}
                        Some(_) => return self.inline(input),
                    }
                    let Some(count) = self.number(input, ProtocolError::LongCount)? else {
                        return Ok(None);
                    };
                    let count = integer(count).filter(|&count| count <= ARGS_MAX);
                    let count = count.ok_or(ProtocolError::Count)?;
                    self.clear();
                    // One below zero is an empty array, too.
                    self.state = State::Length {
                        missing: count.max(0) as usize,
                    };
                }
                State::Length { missing: 0 } => {
                    let len = self.restart();
                    return Ok(Some(Command {
                        args: Args {
                            bytes: input,
                            ranges: &self.args,
                        },
                        len,
                    }));
                }
                State::Length { missing } => {
                    let first = self.at;
                    let Some(len) = self.number(input, ProtocolError::LongLength)? else {
                        return Ok(None);
                    };
                    if input[first] != b'$' {
                        return Err(ProtocolError::NoLength(input[first]));
                    }
                    let len = integer(len).and_then(|len| usize::try_from(len).ok());
                    let len = len.filter(|&len| len <= BULK_MAX);
                    let len = len.ok_or(ProtocolError::Length)?;
                    self.state = State::Bulk { missing, len };
                }
                State::Bulk { missing, len } => {
                    let end = self.at + len;
                    // Redis does not look at the two bytes behind it either.
                    if input.len() < end + 2 {
                        return Ok(None);
                    }
                    self.args.push(self.at..end);
                    self.at = end + 2;
                    self.searched = self.at;
                    self.state = State::Length {
                        missing: missing - 1,
                    };
                }
            }
        }
    }

    /// The line at `at` without its first byte, up to `\r` and one byte more, which it takes in.
    fn number<'i>(
        &mut self,
        input: &'i [u8],
        too_long: ProtocolError,
    ) -> Result<Option<&'i [u8]>, ProtocolError> {
        let Some(end) = self.find(b'\r', input, too_long)? else {
            return Ok(None);
        };
        if input.len() < end + 2 {
            return Ok(None);
        }
        // Without a first byte there is no number either.
        let number = input.get(self.at + 1..end).unwrap_or_default();
        self.at = end + 2;
        self.searched = self.at;
        Ok(Some(number))
    }

    /// Where `byte` is in the line at `at`.
    fn find(
        &mut self,
        byte: u8,
        input: &[u8],
        too_long: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let limit = self.at + LINE_MAX + 1;
        let end = input.len().min(limit);
        // A search that began before the last piece came may have stopped at the piece's end.
        if let Some(found) = input[self.searched..end].iter().position(|&b| b == byte) {
            self.searched += found;
            return Ok(Some(self.searched));
        }
        if end == limit {
            return Err(too_long);
        }
        self.searched = end;
        Ok(None)
    }

    /// A command that is a line of words, as somebody types it.
    fn inline<'a>(&'a mut self, input: &[u8]) -> Result<Option<Command<'a>>, ProtocolError> {
        let Some(end) = self.find(b'\n', input, ProtocolError::LongInline)? else {
            return Ok(None);
        };
        let line = &input[..end];
        self.clear();
        split_words(line, &mut self.unquoted, &mut self.args).ok_or(ProtocolError::Quotes)?;
        self.restart();
        Ok(Some(Command {
            args: Args {
                bytes: &self.unquoted,
                ranges: &self.args,
            },
            len: end + 1,
        }))
    }

    /// Forgets the arguments of the command before.
    fn clear(&mut self) {
        self.args.clear();
        self.args.shrink_to(KEPT_MAX);
        self.unquoted.clear();
    }

    /// The next command begins where this one ends: gives this one's length.
    fn restart(&mut self) -> usize {
        self.state = State::Start;
        self.searched = 0;
        std::mem::take(&mut self.at)
    }
}

/// Splits a line at its spaces, with the quotes and escapes that Redis knows: `"a\x00b\n"` and
/// `'it\'s'`. `None` if a quote is not closed, or closed within a word.
fn split_words(line: &[u8], words: &mut Vec<u8>, ranges: &mut Vec<Range<usize>>) -> Option<()> {
    // As in C, where Redis's line is a string.
    let mut rest = line.split(|&byte| byte == 0).next().unwrap_or_default();
    loop {
        while let [byte, behind @ ..] = rest
            && is_space(*byte)
        {
            rest = behind;
        }
        if rest.is_empty() {
            return Some(());
        }
        let begin = words.len();
        rest = word(rest, words)?;
        ranges.push(begin..words.len());
    }
}

/// Appends the word that `rest` starts with, and gives what is behind it.
fn word<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, behind) = match rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some(rest),
            [quote @ (b'"' | b'\''), behind @ ..] => {
                let behind = quoted(*quote, behind, words)?;
                return behind
                    .first()
                    .is_none_or(|&b| is_space(b))
                    .then_some(behind);
            }
            [byte, behind @ ..] => (*byte, behind),
        };
        words.push(byte);
        rest = behind;
    }
}

/// Appends what stands before the closing quote, and gives what is behind that.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], words: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, behind) = match rest {
            [] => return None,
            [byte, behind @ ..] if *byte == quote => return Some(behind),
            [b'\\', b'\'', behind @ ..] if quote == b'\'' => (b'\'', behind),
            [b'\\', b'x', high, low, behind @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex(*high) << 4 | hex(*low), behind)
            }
            [b'\\', escaped, behind @ ..] if quote == b'"' => (unescaped(*escaped), behind),
            [byte, behind @ ..] => (*byte, behind),
        };
        words.push(byte);
        rest = behind;
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

fn unescaped(letter: u8) -> u8 {
    match letter {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

/// As isspace(3).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// A number as Redis writes it: no sign but a minus, no zeros in front, no spaces.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value = 0_u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // 19 digits fit.
        value = value * 10 + u64::from(digit - b'0');
    }
    if negative {
        0_i64.checked_sub_unsigned(value)
    } else {
        i64::try_from(value).ok()
    }
}

/// A number in its decimal digits, which lie at the end of `digits`.
pub(crate) fn decimal(number: i64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    &digits[at..]
}

fn line(out: &mut Vec<u8>, kind: u8, number: i64) {
    let mut digits = [0; 20];
    out.push(kind);
    out.extend_from_slice(decimal(number, &mut digits));
    out.extend_from_slice(b"\r\n");
}

/// `+TEXT`: a text of our own, of one line.
pub(crate) fn simple(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `-TEXT`, in parts. They may have a client's words in them, so ends of lines become spaces.
pub(crate) fn error<const N: usize>(out: &mut Vec<u8>, parts: [&[u8]; N]) {
    out.push(b'-');
    for part in parts {
        // As in C, where each is a string.
        let text = part.iter().take_while(|&&byte| byte != 0);
        out.extend(text.map(|&byte| match byte {
            b'\r' | b'\n' => b' ',
            byte => byte,
        }));
    }
    out.extend_from_slice(b"\r\n");
}

/// `:NUMBER`
pub(crate) fn number(out: &mut Vec<u8>, number: i64) {
    line(out, b':', number);
}

/// `$LENGTH` and so many bytes.
pub(crate) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 32);
    line(out, b'$', bytes.len() as i64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// What is before so many replies, which are one.
pub(crate) fn array(out: &mut Vec<u8>, len: usize) {
    line(out, b'*', len as i64);
}

/// Which version of the protocol a client speaks. Commands look the same in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    #[default]
    Resp2,
    Resp3,
}

impl Version {
    /// The value that there is not.
    pub(crate) fn null(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::Resp2 => b"$-1\r\n",
            Self::Resp3 => b"_\r\n",
        });
    }

    /// The array that there is not.
    pub(crate) fn null_array(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::Resp2 => b"*-1\r\n",
            Self::Resp3 => b"_\r\n",
        });
    }

    /// What is before so many pairs of replies.
    pub(crate) fn map(self, out: &mut Vec<u8>, pairs: usize) {
        match self {
            Self::Resp2 => array(out, pairs * 2),
            Self::Resp3 => line(out, b'%', pairs as i64),
        }
    }

    /// What is before so many replies, whose order does not matter.
    pub(crate) fn set(self, out: &mut Vec<u8>, len: usize) {
        match self {
            Self::Resp2 => array(out, len),
            Self::Resp3 => line(out, b'~', len as i64),
        }
    }

    /// A text for people.
    pub(crate) fn text(self, out: &mut Vec<u8>, text: &[u8]) {
        match self {
            Self::Resp2 => bulk(out, text),
            Self::Resp3 => {
                line(out, b'=', text.len() as i64 + 4);
                out.extend_from_slice(b"txt:");
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp_check::{Parsed, check, parse_pieces};

    fn words(parsed: &Parsed) -> Vec<Vec<&str>> {
        let text = |arg| str::from_utf8(arg).expect("what the test wrote");
        let commands = parsed.commands.iter();
        commands
            .map(|args| args.iter().map(|arg| text(arg)).collect())
            .collect()
    }

    fn commands(input: &[u8]) -> Vec<Vec<String>> {
        let parsed = check(input, input.len() / 2);
        assert_eq!((parsed.error, parsed.left), (None, 0));
        let commands = words(&parsed).into_iter();
        commands
            .map(|args| args.into_iter().map(str::to_owned).collect())
            .collect()
    }

    #[test]
    fn commands_are_taken_apart() {
        let pipelined = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!(
            commands(pipelined),
            [&["GET", "k"][..], &["PING"], &["PING"]]
        );
        // Empty ones are no commands, but they are taken in.
        assert_eq!(commands(b"*0\r\n*-1\r\n\r\n \t\r\n"), [[""; 0]; 4]);
        assert_eq!(commands(b"*2\r\n$0\r\n\r\n$2\r\n\r\n\r\n"), [["", "\r\n"]]);
    }

    #[test]
    fn binary_arguments_come_as_they_are() {
        let parsed = check(b"*2\r\n$4\r\n\0\xff\r\n\r\n$1\r\n*\r\n", 7);
        assert_eq!(parsed.commands, [[&b"\0\xff\r\n"[..], b"*"]]);
    }

    #[test]
    fn inline_commands_have_quotes_and_escapes() {
        let cases: [(&str, &[&str]); 7] = [
            ("  set  k\tv  ", &["set", "k", "v"]),
            (r#"set "a b" 'c d'"#, &["set", "a b", "c d"]),
            (r#"set "\x41\n\q\"" "#, &["set", "A\nq\""]),
            (r#"set '\n\'' "" '' "#, &["set", r"\n'", "", ""]),
            (r#"set a"b c" "#, &["set", "ab c"]),
            (r#"set "\xzz" "#, &["set", "xzz"]),
            ("set a\0b c", &["set", "a"]),
        ];
        for (line, args) in cases {
            assert_eq!(commands(format!("{line}\r\n").as_bytes()), [args], "{line}");
            assert_eq!(commands(format!("{line}\n").as_bytes()), [args], "{line}");
        }
        for line in [
            r#"set "a"#,
            "set 'a",
            r#"set "a"b"#,
            r#"set "a\"#,
            "set 'a\0'",
        ] {
            let parsed = check(format!("PING\r\n{line}\r\nPING\r\n").as_bytes(), 9);
            assert_eq!(parsed.error, Some(ProtocolError::Quotes), "{line}");
            assert_eq!(words(&parsed), [["PING"]]);
        }
    }

    #[test]
    fn lies_are_errors() {
        let cases: [(&[u8], ProtocolError); 13] = [
            (b"*x\r\n", ProtocolError::Count),
            (b"*\r\n", ProtocolError::Count),
            (b"*01\r\n", ProtocolError::Count),
            (b"*+1\r\n", ProtocolError::Count),
            (b"*2147483648\r\n", ProtocolError::Count),
            (b"*1\r\n+4\r\n", ProtocolError::NoLength(b'+')),
            (b"*1\r\n\r\n", ProtocolError::NoLength(b'\r')),
            (b"*1\r\n$x\r\n", ProtocolError::Length),
            (b"*1\r\n$\r\n", ProtocolError::Length),
            (b"*1\r\n$-1\r\n", ProtocolError::Length),
            (b"*1\r\n$536870913\r\n", ProtocolError::Length),
            (b"*1\r\n$99999999999999999999\r\n", ProtocolError::Length),
            (b"*1\r\n$18446744073709551615\r\n", ProtocolError::Length),
        ];
        for (input, error) in cases {
            assert_eq!(
                check(input, 3).error,
                Some(error),
                "{}",
                input.escape_ascii()
            );
        }
        // What is large, but no lie as far as one can know, is waited for.
        for input in [
            &b"*2147483647\r\n$1\r\na\r\n"[..],
            b"*1\r\n$536870912\r\nabc",
        ] {
            let parsed = check(input, 3);
            assert_eq!((parsed.error, parsed.left), (None, input.len()));
        }
    }

    #[test]
    fn lines_without_an_end_are_errors() {
        let cases = [
            ("", ProtocolError::LongInline),
            ("*", ProtocolError::LongCount),
            ("*1\r\n$", ProtocolError::LongLength),
        ];
        for (begin, error) in cases {
            let line_begin = if begin.contains('$') { 4 } else { 0 };
            let mut input = begin.as_bytes().to_vec();
            input.resize(line_begin + LINE_MAX, b'1');
            let parsed = check(&input, LINE_MAX / 2);
            assert_eq!((parsed.error, parsed.left), (None, input.len()));
            input.push(b'1');
            assert_eq!(check(&input, LINE_MAX).error, Some(error));
            // The end comes too late.
            input.extend_from_slice(b"\r\n");
            assert_eq!(check(&input, LINE_MAX).error, Some(error));
        }
        let mut input = vec![b'1'; LINE_MAX];
        input.push(b'\n');
        assert_eq!(
            commands(&input),
            [[str::from_utf8(&input[..LINE_MAX]).expect("ones")]]
        );
    }

    /// Else a value that arrives in thousands of pieces would be parsed as many times.
    #[test]
    fn what_was_taken_in_is_not_looked_at_again() {
        let mut parser = Parser::default();
        let mut input = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nva".to_vec();
        assert!(parser.parse(&input).expect("no error").is_none());
        let first_two = input.len() - 6;
        input[..4].fill(b'?');
        input[first_two..].fill(b'?');
        input.extend_from_slice(b"lue\r\n");
        let command = parser
            .parse(&input)
            .expect("no error")
            .expect("it is whole");
        assert_eq!(
            (command.len, &command.args[2]),
            (input.len(), &b"??lue"[..])
        );

        // Nor is a line searched again.
        let mut parser = Parser::default();
        assert!(parser.parse(b"PI").expect("no error").is_none());
        assert!(parser.parse(b"\n\nN").expect("no error").is_none());
    }

    /// Frames of all kinds, some of them broken, in any pieces.
    #[test]
    fn random_frames_parse_the_same_in_any_pieces() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut whole, mut errors) = (0, 0);
        for _ in 0..3_000 {
            let mut input = Vec::new();
            for _ in 0..rng.usize(1..5) {
                random_frame(&mut rng, &mut input);
            }
            if rng.bool() {
                let at = rng.usize(..input.len());
                input[at] = *rng.choice(b"*$\r\n\0'\"\\x 019-").expect("some");
            }
            let parsed = check(&input, rng.usize(..input.len()));
            let cuts = [rng.usize(1..9), rng.usize(1..99)];
            for cut in cuts {
                assert_eq!(
                    parsed,
                    parse_pieces(input.chunks(cut)),
                    "{}",
                    input.escape_ascii()
                );
            }
            whole += parsed.commands.len();
            errors += usize::from(parsed.error.is_some());
        }
        assert!(
            whole > 3_000 && errors > 100,
            "{whole} commands, {errors} errors"
        );
    }

    fn random_frame(rng: &mut fastrand::Rng, input: &mut Vec<u8>) {
        let args = rng.usize(0..4);
        let inline = rng.u8(0..4) == 0;
        if !inline {
            input.extend_from_slice(format!("*{args}\r\n").as_bytes());
        }
        for _ in 0..args {
            let len = rng.usize(0..40);
            let arg: Vec<u8> = if inline {
                (0..len).map(|_| rng.alphanumeric() as u8).collect()
            } else {
                (0..len).map(|_| rng.u8(..)).collect()
            };
            if inline {
                input.extend_from_slice(&arg);
                input.push(b' ');
            } else {
                input.extend_from_slice(format!("${len}\r\n").as_bytes());
                input.extend_from_slice(&arg);
                input.extend_from_slice(b"\r\n");
            }
        }
        if inline {
            input.extend_from_slice(b"\r\n");
        }
    }

    #[test]
    fn integers_are_as_redis_writes_them() {
        for number in [0, 1, -1, 10, 1_234_567, i64::MAX, i64::MIN, i64::MIN + 1] {
            let mut digits = [0; 20];
            let text = decimal(number, &mut digits);
            assert_eq!(text, number.to_string().as_bytes());
            assert_eq!(integer(text), Some(number));
        }
        for text in [
            "", "-", "-0", "00", "01", "+1", " 1", "1 ", "1x", "x", "1.0",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
        for text in [
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn errors_stay_on_their_line() {
        let mut out = Vec::new();
        error(&mut out, [b"ERR a\r\nb\0c", b"d"]);
        assert_eq!(out, b"-ERR a  bd\r\n");
    }
}

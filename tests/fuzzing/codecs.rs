//! What holds of a reader for any bytes, in whatever pieces they come: it gives what a model gives
//! that has all of them at once. The test `fuzz` looks at it, and so does the fuzz target in `fuzz/`.
//!
//! ```text
//!   input:  n │ n bytes: the limit, how it is cut, then what is called │ the stream
//! ```

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use coring::net::UnixStream;
use coring::{
    IncompleteRead, Lease, LimitOverrun, Runner, StreamReader, create_task, is_timed_out, wait_for,
    yield_now,
};

/// Of several lengths, and such that one is the end of another.
const SEPARATORS: [&[u8]; 4] = [b"\n", b"\r\n", b"ab", b"aab"];

thread_local! {
    /// One for all inputs: making a ring takes longer than using it.
    static RUNNER: RefCell<Option<Runner>> = const { RefCell::new(None) };
}

/// Runs the script on the stream, and compares with the model.
///
/// # Panics
/// If the reader does something else.
pub(crate) fn check(input: &[u8]) {
    let Some((&n, rest)) = input.split_first() else {
        return;
    };
    let (script, stream) = rest.split_at(usize::from(n).min(rest.len()));
    let [limit, seed, calls @ ..] = script else {
        return;
    };
    RUNNER.with_borrow_mut(|runner| {
        let runner = runner.get_or_insert_with(|| Runner::builder().build().expect("io_uring"));
        runner.run(run(1 + usize::from(*limit), *seed, calls, stream));
    });
}

async fn run(limit: usize, seed: u8, calls: &[u8], stream: &[u8]) {
    let (ours, mut theirs) = UnixStream::pair().expect("descriptors");
    let (mut reader, _writer) = ours.into_streams();
    reader.set_limit(limit);
    let all = stream.to_vec();
    let sender = create_task(async move {
        let (mut rest, mut random) = (&all[..], fastrand::Rng::with_seed(seed.into()));
        while !rest.is_empty() {
            let most = [1, 4, 1_000][random.usize(..3)];
            let (piece, more) = rest.split_at(random.usize(1..=most).min(rest.len()));
            if theirs.write_all(piece.to_vec()).await.0.is_err() {
                return; // The calls were over first.
            }
            rest = more;
            for _ in 0..random.u8(..3) {
                yield_now().await.expect("nobody cancels");
            }
        }
    });
    let mut model = Model {
        rest: stream,
        limit,
    };
    for &call in calls {
        let call = Call::of(call);
        let mut outcome = None;
        if call.is_limited {
            // Whatever it does in no time, it loses nothing.
            let limited = wait_for(call.make(&mut reader), Duration::ZERO).await;
            outcome = match limited {
                Err(error) if is_timed_out(&error) => None,
                outcome => Some(outcome),
            };
        }
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => call.make(&mut reader).await,
        };
        model.check(&call, outcome);
    }
    // And what is left is left.
    let rest = reader.read_to_end().await.expect("the end");
    assert_eq!(rest, model.rest);
    sender.await;
}

#[derive(Debug)]
struct Call {
    kind: Kind,
    is_limited: bool,
}

#[derive(Debug)]
enum Kind {
    Line,
    Until(Vec<&'static [u8]>),
    Exactly(usize),
    Some(usize),
    Frame(usize),
}

impl Call {
    fn of(byte: u8) -> Self {
        let argument = usize::from(byte >> 4);
        let kind = match byte & 7 {
            0 | 1 => Kind::Line,
            2 => Kind::Until(vec![SEPARATORS[argument % 4]]),
            3 => Kind::Until(vec![SEPARATORS[argument % 4], SEPARATORS[argument / 4]]),
            4 => Kind::Exactly(argument * argument),
            5 => Kind::Some(argument * 3),
            _ => Kind::Frame(argument * 5),
        };
        Self {
            kind,
            is_limited: byte & 8 != 0,
        }
    }

    /// `None` is the end where frames were asked for.
    async fn make(&self, reader: &mut StreamReader) -> io::Result<Option<Lease>> {
        match &self.kind {
            Kind::Line => reader.readline().await.map(Some),
            Kind::Until(separators) => reader.readuntil_any(separators).await.map(Some),
            Kind::Exactly(n) => reader.readexactly(*n).await.map(Some),
            Kind::Some(n) => reader.read(*n).await.map(Some),
            Kind::Frame(max) => reader.read_frame(*max).await,
        }
    }
}

/// A reader that has all that is still to come.
struct Model<'a> {
    rest: &'a [u8],
    limit: usize,
}

impl<'a> Model<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        taken
    }

    fn check(&mut self, call: &Call, outcome: io::Result<Option<Lease>>) {
        match &call.kind {
            Kind::Line => self.check_line(value(outcome)),
            Kind::Until(separators) => self.check_until(separators, value(outcome)),
            Kind::Exactly(n) if *n <= self.rest.len() => self.is_next(*n, &value(outcome)),
            Kind::Exactly(n) => self.is_incomplete(&value(outcome), Some(*n)),
            Kind::Some(n) => {
                let came = value(outcome).expect("no error");
                assert!(came.len() <= *n);
                assert_eq!(came.is_empty(), self.rest.is_empty() || *n == 0);
                assert_eq!(came[..], *self.take(came.len()));
            }
            Kind::Frame(max) => self.check_frame(*max, outcome),
        }
    }

    fn check_line(&mut self, outcome: io::Result<Lease>) {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let text = end.unwrap_or(self.rest.len());
        if text <= self.limit {
            return self.is_next(end.map_or(text, |end| end + 1), &outcome);
        }
        let overrun = overrun(outcome);
        if overrun.found {
            assert_eq!(Some(overrun.consumed), end);
            self.take(text + 1);
        } else {
            // What had come is dropped.
            assert!(self.limit < overrun.consumed && overrun.consumed <= text);
            self.take(overrun.consumed);
        }
    }

    fn check_until(&mut self, separators: &[&[u8]], outcome: io::Result<Lease>) {
        let longest = separators.iter().map(|separator| separator.len()).max();
        let longest = longest.expect("there is one");
        // By trying each place at which one may end.
        let first = (1..=self.rest.len()).find_map(|end| {
            let ends = |separator: &&&[u8]| self.rest[..end].ends_with(separator);
            let found = separators
                .iter()
                .filter(ends)
                .map(|found| found.len())
                .max();
            Some((end - found?, end))
        });
        match first {
            Some((begin, end)) if begin <= self.limit => self.is_next(end, &outcome),
            None if self.rest.len() < self.limit + longest => {
                self.is_incomplete(&outcome, None);
            }
            _ => {
                let overrun = overrun(outcome);
                assert!(overrun.consumed > self.limit);
                assert_eq!(overrun.limit, self.limit);
                match first {
                    Some((begin, _)) if overrun.found => assert_eq!(overrun.consumed, begin),
                    Some((_, end)) => assert!(overrun.consumed <= end),
                    None => assert!(!overrun.found && overrun.consumed <= self.rest.len()),
                }
            }
        }
    }

    fn check_frame(&mut self, max: usize, outcome: io::Result<Option<Lease>>) {
        let Some(length) = self.rest.first_chunk() else {
            if self.rest.is_empty() {
                return assert!(outcome.expect("the end").is_none());
            }
            return self.is_incomplete(&value(outcome), None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > max {
            let error = outcome.expect_err("it is too long");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        } else if self.rest.len() < 4 + length {
            self.is_incomplete(&value(outcome), None);
        } else {
            self.take(4);
            self.is_next(length, &value(outcome));
        }
    }

    fn is_next(&mut self, n: usize, outcome: &io::Result<Lease>) {
        let came = outcome.as_ref().expect("it is there");
        assert_eq!(came[..], *self.take(n));
    }

    fn is_incomplete(&mut self, outcome: &io::Result<Lease>, expected: Option<usize>) {
        let error = outcome.as_ref().expect_err("there is less");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let incomplete = IncompleteRead::of(error).expect("it says what came");
        assert_eq!(incomplete.partial, self.take(self.rest.len()));
        assert_eq!(incomplete.expected, expected);
    }
}

fn value(outcome: io::Result<Option<Lease>>) -> io::Result<Lease> {
    outcome.map(|came| came.expect("no frame was asked for, or it is there"))
}

fn overrun(outcome: io::Result<Lease>) -> LimitOverrun {
    let error = outcome.expect_err("it is too long");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    *LimitOverrun::of(&error).expect("it says how long")
}

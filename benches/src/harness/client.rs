//! The client: it asks one server for something on each of its connections, again and again, for a
//! window.
//!
//! It runs over a ring because that costs it least, and spins where it has to wait, so that no
//! server pays for waking it.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use io_uring::cqueue;

use super::cpu::Account;
use super::syscalls::Counters;
use crate::raw::Turns;

/// A server that is silent for so long has failed.
const STALL: Duration = Duration::from_secs(5);

/// Answers handled before the next enter. Small, so that a latency contains little of the client's
/// own queue, and large enough that the enter's own cost is spread.
const BATCH: usize = 32;

/// What one server is asked for.
pub(crate) trait Load {
    /// How many requests can be on their way at once: each has a number below that.
    fn places(&self) -> usize;

    /// Sends the next request of a place that has none on its way.
    fn ask(&mut self, turns: &mut Turns<'_>, place: usize) -> io::Result<()>;

    /// The place whose request a completion ends.
    fn answered(&mut self, completion: &cqueue::Entry) -> io::Result<usize>;
}

/// What a completion of a chain of two requests says, of which the first is silent in success and has
/// `first` in its token: the place, and what the second gave. One less is in flight then.
pub(crate) fn ended(
    completion: &cqueue::Entry,
    first: u64,
    in_flight: &mut usize,
) -> io::Result<(usize, usize)> {
    let token = completion.user_data();
    if token & first == 0 {
        *in_flight -= 1;
    }
    match completion.result() {
        result if result < 0 || token & first != 0 => Err(io::Error::from_raw_os_error(-result)),
        result => Ok((token as usize, result as usize)),
    }
}

/// What one server did in one window.
pub(crate) struct Window {
    pub(crate) requests: u64,
    pub(crate) elapsed_ns: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) syscalls: Option<u64>,
    pub(crate) latency_ns: Histogram<u32>,
}

/// The server's meters; the counters slow every system call, so most windows have none.
pub(crate) struct Meters<'a> {
    pub(crate) account: &'a Account,
    pub(crate) counters: Option<Counters>,
}

impl Meters<'_> {
    fn read(&mut self) -> io::Result<(u64, Option<u64>)> {
        let syscalls = self.counters.as_mut().map(Counters::total).transpose()?;
        Ok((self.account.cpu_ns()?, syscalls))
    }
}

/// Keeps every place of `load` busy for `window`, and measures all of it but the first `discard`.
///
/// Both go on until as many requests were answered as there are places: of a thousand large messages
/// a round takes longer than a window, and the first one has the buffers of all sockets grow.
pub(crate) fn drive(
    load: &mut dyn Load,
    turns: &mut Turns<'_>,
    window: Duration,
    discard: Duration,
    meters: &mut Meters<'_>,
) -> io::Result<Window> {
    let began = Instant::now();
    let mut latency_ns = Histogram::new_with_max(10_000_000_000, 3).map_err(io::Error::other)?;
    latency_ns.auto(true);
    let round = load.places() as u64;
    let mut asked_ns = vec![0; load.places()];
    let mut answered = 0;
    let mut start = None;
    let mut end = None;
    for place in 0..load.places() {
        load.ask(turns, place)?;
    }
    let mut in_flight = load.places();
    while in_flight > 0 {
        if !turns.turn_spinning(STALL)? {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the server is silent",
            ));
        }
        let now = began.elapsed();
        let now_ns = now.as_nanos() as u64;
        if start.is_none() && now >= discard && answered >= round {
            start = Some((now_ns, meters.read()?));
        }
        if start.is_some() && end.is_none() && now >= window && latency_ns.len() >= round {
            end = Some((now_ns, meters.read()?));
        }
        let measured = start.is_some() && end.is_none();
        for _ in 0..BATCH {
            let Some(completion) = turns.reap() else {
                break;
            };
            let place = load.answered(&completion)?;
            answered += 1;
            in_flight -= 1;
            if measured {
                latency_ns
                    .record(now_ns - asked_ns[place])
                    .map_err(io::Error::other)?;
            }
            if end.is_none() {
                load.ask(turns, place)?;
                asked_ns[place] = now_ns;
                in_flight += 1;
            }
        }
    }
    let (Some((start_ns, before)), Some((end_ns, after))) = (start, end) else {
        return Err(io::Error::other("nothing was asked"));
    };
    Ok(Window {
        requests: latency_ns.len(),
        elapsed_ns: end_ns - start_ns,
        cpu_ns: after.0 - before.0,
        syscalls: after.1.zip(before.1).map(|(after, before)| after - before),
        latency_ns,
    })
}

//! A number handed to and fro between two threads, each on a core of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};

use coring::Runner;
use tokio::runtime::Runtime;

use super::pingpong::{End, answer, ask, ends};
use crate::{CLIENT_CORE, pin_to};

/// A runtime on the other core, which sends back what it receives.
#[derive(Debug)]
pub struct Peer {
    end: End,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Peer {
    /// One that runs coring. It wakes the runtime here by MSG_RING.
    pub fn coring() -> Peer {
        Peer::start(|end| Runner::builder().build()?.run(answer(end)))
    }

    /// One that runs tokio's `current_thread` runtime.
    pub fn tokio() -> Peer {
        Peer::start(|end| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(answer(end))
        })
    }

    fn start(serve: fn(End) -> io::Result<()>) -> Peer {
        let (end, other) = ends();
        let thread = thread::spawn(move || {
            pin_to(CLIENT_CORE)?;
            serve(other)
        });
        Peer {
            end,
            thread: Some(thread),
        }
    }

    /// `n` round trips, from coring.
    ///
    /// # Errors
    ///
    /// If the peer has failed.
    pub fn ask_from_coring(&mut self, runner: &mut Runner, n: u64) -> io::Result<()> {
        runner.run(ask(&mut self.end, n))
    }

    /// `n` round trips, from tokio.
    ///
    /// # Errors
    ///
    /// If the peer has failed.
    pub fn ask_from_tokio(&mut self, runtime: &Runtime, n: u64) -> io::Result<()> {
        runtime.block_on(ask(&mut self.end, n))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end.0.close_channel();
        if let Some(thread) = self.thread.take() {
            // Its failure has been seen by whoever asked.
            drop(thread.join());
        }
    }
}

/// A thread on the other core that parks between numbers: two futexes and nothing else.
#[derive(Debug)]
pub struct Parker {
    /// Even: it is the turn of the thread that asks; odd: of the other one; `STOP`: the end.
    turn: Arc<AtomicU64>,
    other: Thread,
    thread: Option<JoinHandle<io::Result<()>>>,
}

const STOP: u64 = u64::MAX;

impl Parker {
    /// One that answers the calling thread.
    pub fn start() -> Parker {
        let turn = Arc::new(AtomicU64::new(0));
        let (shared, asker) = (Arc::clone(&turn), thread::current());
        let thread = thread::spawn(move || {
            pin_to(CLIENT_CORE)?;
            loop {
                match shared.load(Ordering::Acquire) {
                    STOP => return Ok(()),
                    odd if odd % 2 == 1 => {
                        shared.store(odd + 1, Ordering::Release);
                        asker.unpark();
                    }
                    _ => thread::park(),
                }
            }
        });
        Parker {
            turn,
            other: thread.thread().clone(),
            thread: Some(thread),
        }
    }

    /// `n` round trips.
    ///
    /// # Errors
    ///
    /// If the other thread has ended.
    pub fn ask(&self, n: u64) -> io::Result<()> {
        for _ in 0..n {
            self.turn.fetch_add(1, Ordering::Release);
            self.other.unpark();
            while self.turn.load(Ordering::Acquire) % 2 == 1 {
                if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                    return Err(io::Error::other("the other thread has ended"));
                }
                thread::park();
            }
        }
        Ok(())
    }
}

impl Drop for Parker {
    fn drop(&mut self) {
        self.turn.store(STOP, Ordering::Release);
        self.other.unpark();
        if let Some(thread) = self.thread.take() {
            // Its failure has been seen by whoever asked.
            drop(thread.join());
        }
    }
}

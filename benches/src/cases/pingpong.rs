//! A number handed to and fro: the same tasks and the same queues on each runtime.
//!
//! `futures-channel`'s queue works across threads, so it pays for atomics and an allocation per
//! message wherever it runs; `local` is a queue for one thread, which leaves the wakes.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;

/// One end: where to send, and where to receive.
pub(super) type End = (UnboundedSender<u64>, UnboundedReceiver<u64>);

/// Two ends that face each other.
pub(super) fn ends() -> (End, End) {
    let (to_pong, at_pong) = unbounded();
    let (to_ping, at_ping) = unbounded();
    ((to_pong, at_ping), (to_ping, at_pong))
}

/// Sends `rounds` numbers, each when the one before has come back.
pub(super) async fn ask((to, from): &mut End, rounds: u64) -> io::Result<()> {
    for round in 0..rounds {
        to.unbounded_send(round).map_err(io::Error::other)?;
        if from.next().await != Some(round) {
            return Err(io::Error::other("another number came back"));
        }
    }
    Ok(())
}

/// Sends back what comes, until the other end is gone.
pub(super) async fn answer((to, mut from): End) -> io::Result<()> {
    while let Some(number) = from.next().await {
        if to.unbounded_send(number).is_err() {
            break;
        }
    }
    Ok(())
}

/// What the channel costs by itself: both ends polled by hand, with a waker that does nothing.
///
/// # Errors
///
/// If a number is lost.
pub fn without_runtime(n: u64) -> io::Result<()> {
    let (mut ping, pong) = ends();
    let mut asking = pin!(ask(&mut ping, n));
    let mut answering = pin!(answer(pong));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..=n {
        if let Poll::Ready(outcome) = asking.as_mut().poll(&mut context) {
            return outcome;
        }
        if answering.as_mut().poll(&mut context).is_ready() {
            break;
        }
    }
    Err(io::Error::other("a number was lost"))
}

/// Queues for one thread.
pub(super) mod local {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use super::{Poll, Waker, io, poll_fn};

    #[derive(Default)]
    struct Queue {
        numbers: VecDeque<u64>,
        waiting: Option<Waker>,
    }

    /// One end: where to send, and where to receive.
    pub(in super::super) struct End {
        to: Rc<RefCell<Queue>>,
        from: Rc<RefCell<Queue>>,
    }

    pub(in super::super) fn ends() -> (End, End) {
        let (one, other) = (Rc::default(), Rc::default());
        let ping = End {
            to: Rc::clone(&one),
            from: Rc::clone(&other),
        };
        let pong = End {
            to: other,
            from: one,
        };
        (ping, pong)
    }

    impl End {
        fn send(&self, number: u64) {
            let mut queue = self.to.borrow_mut();
            queue.numbers.push_back(number);
            let waiting = queue.waiting.take();
            drop(queue);
            if let Some(waiting) = waiting {
                waiting.wake();
            }
        }

        async fn receive(&self) -> u64 {
            poll_fn(|cx| {
                let mut queue = self.from.borrow_mut();
                let number = queue.numbers.pop_front();
                if number.is_none() {
                    queue.waiting = Some(cx.waker().clone());
                }
                number.map_or(Poll::Pending, Poll::Ready)
            })
            .await
        }
    }

    pub(in super::super) async fn ask(end: End, rounds: u64) -> io::Result<()> {
        for round in 0..rounds {
            end.send(round);
            if end.receive().await != round {
                return Err(io::Error::other("another number came back"));
            }
        }
        Ok(())
    }

    pub(in super::super) async fn answer(end: End, rounds: u64) {
        for _ in 0..rounds {
            let number = end.receive().await;
            end.send(number);
        }
    }
}

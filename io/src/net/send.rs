//! The sending side of a stream: what is written is gathered, and one send is in flight at a time.
//!
//! ```text
//!   write ──▶ queue ──▶ pump, a task: one batch ──▶ a send that never waits, silent if it does all
//!               ▲                                        │ the kernel has no room
//!               └── what is written meanwhile            └──▶ a send that waits, for the rest
//! ```
//!
//! The pump runs when whoever writes has let go of the thread, so that all it wrote goes out in one
//! send. For one that succeeds the loop does not get up, unless somebody waits for it: it goes with the
//! enter in which the loop waits for the next message. The pump hears of it behind that, if it holds
//! buffers that others want back ([`Keeps`]), else with the next write.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem::{replace, take};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use coring_runtime::sync::Event;
use coring_runtime::{
    BufResult, Instant, Lease, Op, Task, TaskRef, Timer, checkpoint, is_cancelled, submit,
};
use socket2::SockRef;

use super::stream::shut_down;
use crate::ops::{SendBatch, SharedFd};

/// Past so many bytes a drain waits until a quarter of them is left: as asyncio's transports.
const HIGH_WATER_BYTES: usize = 64 * 1024;

/// What is gathered into one send.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// So much of a lease is copied, which costs less than to see to it that its buffer goes back as soon
/// as it is sent.
const COPIED_BYTES_MAX: usize = 1024;

/// Room that is kept for what is written next.
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// Bytes on their way out.
pub(crate) enum Chunk {
    Lease(Lease),
    Bytes(Bytes),
    /// And how many of them have gone.
    Copied(Vec<u8>, usize),
}

impl Chunk {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Lease(lease) => lease,
            Self::Bytes(bytes) => bytes,
            Self::Copied(vec, gone) => &vec[*gone..],
        }
    }

    fn advance(&mut self, n: usize) {
        match self {
            Self::Lease(lease) => lease.advance(n),
            Self::Bytes(bytes) => drop(bytes.split_to(n)),
            Self::Copied(_, gone) => *gone += n,
        }
    }

    /// As what was received.
    pub(super) fn into_lease(self) -> Lease {
        match self {
            Self::Lease(lease) => lease,
            other => other.bytes().to_vec().into(),
        }
    }
}

/// Takes `n` bytes off that have gone, and gives up the chunks that they were.
pub(super) fn advance(batch: &mut Vec<Chunk>, mut n: usize, give_up: impl FnMut(Chunk)) {
    let mut gone = 0;
    while let Some(chunk) = batch.get(gone)
        && chunk.bytes().len() <= n
    {
        n -= chunk.bytes().len();
        gone += 1;
    }
    batch.drain(..gone).for_each(give_up);
    if let Some(first) = batch.first_mut() {
        first.advance(n);
    }
}

/// What becomes of the connection once all has been sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum End {
    /// It goes on.
    No,
    /// The peer reads to the end.
    Eof,
    Closed,
}

/// The handle of who writes. When it is dropped, what is left is sent.
pub(crate) struct Sender(Rc<Outgoing>);

struct Outgoing {
    fd: SharedFd,
    state: RefCell<State>,
    /// Set, and cleared again, when one of the goals may have been reached.
    progress: Event,
    /// How many wait for that.
    waiters: Cell<usize>,
}

/// What is waited for. A connection that has failed is at all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A drain: that not too much is queued.
    Room,
    /// That nothing is, and the end that was asked for is there.
    Flushed,
    Closed,
}

struct State {
    queue: VecDeque<Chunk>,
    /// Bytes that are queued or being sent.
    bytes: usize,
    high_water: usize,
    /// More than that was queued, and more than a quarter of it still is.
    full: bool,
    spare: Vec<u8>,
    error: Option<io::Error>,
    /// Something was written behind the end.
    refused: bool,
    /// What is asked for, and what has been done of it.
    end: End,
    ended: End,
    pump: Pump,
    task: Option<TaskRef>,
    /// Nobody writes any more.
    left: bool,
}

/// The task that sends.
enum Pump {
    /// Nothing was written, or it was asked to stop when there was nothing left to send: the next
    /// write makes one.
    None,
    /// Ready to run, or waiting for the kernel.
    Running,
    /// Waiting for something to do.
    Parked(Waker),
    /// The connection has failed or is closed.
    Over,
}

impl Sender {
    pub(crate) fn new(fd: SharedFd) -> Self {
        let outgoing = Outgoing {
            fd,
            state: RefCell::new(State {
                queue: VecDeque::new(),
                bytes: 0,
                high_water: HIGH_WATER_BYTES,
                full: false,
                spare: Vec::new(),
                error: None,
                refused: false,
                end: End::No,
                ended: End::No,
                pump: Pump::None,
                task: None,
                left: false,
            }),
            progress: Event::new(),
            waiters: Cell::new(0),
        };
        Self(Rc::new(outgoing))
    }

    /// Has a copy of `bytes` sent.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let mut state = self.0.state.borrow_mut();
        if bytes.is_empty() || !state.takes_more() {
            state.refused |= !bytes.is_empty();
            return;
        }
        if let Some(Chunk::Copied(last, _)) = state.queue.back_mut() {
            last.extend_from_slice(bytes);
        } else {
            let mut vec = take(&mut state.spare);
            vec.extend_from_slice(bytes);
            state.queue.push_back(Chunk::Copied(vec, 0));
        }
        Outgoing::written(&self.0, state, bytes.len());
    }

    /// Has bytes sent from where they are, but for few of a lease.
    pub(crate) fn push(&self, chunk: Chunk) {
        if let Chunk::Lease(lease) = &chunk
            && lease.len() <= COPIED_BYTES_MAX
        {
            return self.write(lease);
        }
        let mut state = self.0.state.borrow_mut();
        let len = chunk.bytes().len();
        if len == 0 || !state.takes_more() {
            state.refused |= len > 0;
            return;
        }
        state.queue.push_back(chunk);
        Outgoing::written(&self.0, state, len);
    }

    /// Bytes that wait to be sent, or are being sent.
    pub(crate) fn buffered(&self) -> usize {
        let mut state = self.0.state.borrow_mut();
        if state.bytes > 0 {
            state.wake_pump(); // A silent send may be over: then less the next time.
        }
        state.bytes
    }

    pub(crate) fn set_high_water(&self, bytes: usize) {
        let mut state = self.0.state.borrow_mut();
        state.high_water = bytes;
        state.full |= state.bytes > bytes;
        state.full &= state.bytes > bytes / 4;
        drop(state);
        self.0.tell();
    }

    pub(crate) fn high_water(&self) -> usize {
        self.0.state.borrow().high_water
    }

    /// Whether nobody has to wait for it.
    pub(crate) fn is_at(&self, goal: Goal) -> bool {
        self.0.state.borrow().is_at(goal)
    }

    /// What has become of the connection.
    pub(crate) fn error(&self) -> io::Result<()> {
        self.0.error()
    }

    /// [`drain`](Self::drain) or [`flush`](Self::flush), to be kept.
    pub(crate) fn later(&self, goal: Goal) -> Pin<Box<dyn Future<Output = io::Result<()>>>> {
        let outgoing = self.0.clone();
        Box::pin(async move { outgoing.wait_to_go_on(goal).await })
    }

    /// Waits, if more is queued than the high-water mark, until a quarter of that is left.
    pub(crate) async fn drain(&self) -> io::Result<()> {
        self.0.wait_to_go_on(Goal::Room).await
    }

    /// Waits until all that was written has been sent, and the end behind it.
    pub(crate) async fn flush(&self) -> io::Result<()> {
        self.0.wait_to_go_on(Goal::Flushed).await
    }

    /// Ends what the peer reads, after what was written.
    pub(crate) fn write_eof(&self) {
        Outgoing::end(&self.0, End::Eof);
    }

    /// Closes the connection, after what was written.
    pub(crate) fn close(&self) {
        Outgoing::end(&self.0, End::Closed);
    }

    /// Forgets what has not been sent, and ends the connection.
    pub(crate) fn abort(&self) {
        self.0.abort();
    }

    /// What is left to be sent when this is dropped.
    pub(crate) fn rest(&self) -> Rest {
        Rest(self.0.clone())
    }

    /// Whether nothing can be written any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.state.borrow().end != End::No
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.0.state.borrow().end == End::Closed
    }

    /// Waits until the connection is closed.
    pub(crate) async fn wait_closed(&self) -> io::Result<()> {
        self.0.wait_here(Goal::Closed).await
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        state.left = true;
        state.wake_pump();
    }
}

/// What a writer has left to be sent, for whoever answers for the connection. When this is dropped
/// before it has been sent, and nobody writes any more, it is forgotten.
pub(crate) struct Rest(Rc<Outgoing>);

impl Rest {
    /// Waits until all has been sent, or the connection has failed. A request to stop is no reason to
    /// send less: this hears of it, and goes on. Nor is a pump of another runtime: that may turn again.
    pub(crate) async fn sent(self) {
        while let Err(error) = self.0.wait(Goal::Flushed).await
            && is_cancelled(&error)
        {}
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let state = self.0.state.borrow();
        let is_left = state.left && state.bytes > 0;
        drop(state);
        if is_left {
            self.0.abort();
        }
    }
}

impl State {
    fn is_at(&self, goal: Goal) -> bool {
        self.error.is_some()
            || match goal {
                Goal::Room => !self.full,
                Goal::Flushed => self.bytes == 0 && self.ended == self.end,
                Goal::Closed => self.ended == End::Closed,
            }
    }

    const fn takes_more(&self) -> bool {
        self.error.is_none() && matches!(self.end, End::No)
    }

    fn wake_pump(&mut self) {
        if let Pump::Parked(_) = self.pump
            && let Pump::Parked(waker) = replace(&mut self.pump, Pump::Running)
        {
            waker.wake();
        }
    }
}

/// What the pump does next.
enum Step {
    Send,
    ShutDown(Shutdown),
    /// Nothing, until it is woken.
    Park,
    Leave,
}

impl Outgoing {
    fn written(this: &Rc<Self>, mut state: RefMut<'_, State>, bytes: usize) {
        state.bytes += bytes;
        state.full |= state.bytes > state.high_water;
        Self::see_to_pump(this, state);
    }

    fn end(this: &Rc<Self>, end: End) {
        let mut state = this.state.borrow_mut();
        if state.end < end {
            state.end = end;
            Self::see_to_pump(this, state);
        }
    }

    fn see_to_pump(this: &Rc<Self>, mut state: RefMut<'_, State>) {
        if let Pump::None = state.pump {
            state.pump = Pump::Running;
            drop(state);
            // Made here, so that a task that is never polled tells of it as well.
            let pump = pump(Pumping(this.clone()));
            let task = Task::builder().name("stream writer").spawn(pump);
            // Unless the runtime is ending, and has dropped it.
            if !task.done() {
                this.state.borrow_mut().task = Some(task.as_ref());
            }
        } else {
            state.wake_pump();
        }
    }

    /// Waits, while the pump knows that somebody does.
    async fn wait(&self, goal: Goal) -> io::Result<()> {
        if self.state.borrow().is_at(goal) {
            checkpoint()?;
        } else {
            let _waiter = Waiter::new(self);
            self.state.borrow_mut().wake_pump();
            while !self.state.borrow().is_at(goal) {
                self.progress.wait().await?;
            }
        }
        self.error()
    }

    /// Has those who wait look again.
    fn tell(&self) {
        if self.waiters.get() > 0 {
            self.progress.set();
            self.progress.clear();
        }
    }

    fn error(&self) -> io::Result<()> {
        match &self.state.borrow().error {
            Some(error) => Err(copy_of(error)),
            None => Ok(()),
        }
    }

    /// [`wait`](Self::wait), unless the pump is of another runtime: it would not go on meanwhile.
    async fn wait_here(&self, goal: Goal) -> io::Result<()> {
        if !self.state.borrow().is_at(goal) && self.is_sent_elsewhere() {
            return Err(elsewhere("this stream is sent"));
        }
        self.wait(goal).await
    }

    fn is_sent_elsewhere(&self) -> bool {
        let state = self.state.borrow();
        state.task.as_ref().is_some_and(|task| !task.is_here())
    }

    /// [`wait_here`](Self::wait_here), for who would write more: that may have been refused.
    async fn wait_to_go_on(&self, goal: Goal) -> io::Result<()> {
        self.wait_here(goal).await?;
        if self.state.borrow().refused {
            return Err(written_after_the_end());
        }
        Ok(())
    }

    /// Takes a batch from the queue, or says what else there is to do.
    fn next(&self, batch: &mut Vec<Chunk>) -> Step {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if state.error.is_some() {
            return Step::Leave;
        }
        let mut bytes = 0;
        while batch.len() < SendBatch::CHUNKS_MAX
            && bytes < BATCH_BYTES_MAX
            && let Some(chunk) = state.queue.pop_front()
        {
            bytes += chunk.bytes().len();
            batch.push(chunk);
        }
        if bytes > 0 {
            return Step::Send;
        }
        match state.end {
            End::Eof if state.ended < End::Eof => Step::ShutDown(Shutdown::Write),
            End::Closed if state.ended < End::Closed => Step::ShutDown(Shutdown::Both),
            _ if state.left || state.ended == End::Closed => Step::Leave,
            _ => Step::Park,
        }
    }

    /// Whether a send that is over need not be told: nothing waits behind it, and nobody for it.
    fn is_quiet(&self) -> bool {
        let state = self.state.borrow();
        self.waiters.get() == 0 && state.queue.is_empty() && state.end == End::No && !state.left
    }

    /// A send is over. Gives whether the next one has to wait for room.
    fn sent(&self, result: io::Result<usize>, batch: &mut Vec<Chunk>) -> bool {
        let (n, waits) = match result {
            Ok(n) => (n, false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, true),
            // A request to stop: used up by this, and what was written is sent all the same. The
            // runtime's end has an end to that.
            Err(error) if is_cancelled(&error) => (0, true),
            Err(error) => {
                batch.clear();
                self.fail(error);
                return false;
            }
        };
        let mut state = self.state.borrow_mut();
        if state.error.is_some() {
            // Aborted meanwhile: what was sent of it is not counted any more.
            batch.clear();
            return false;
        }
        state.bytes -= n;
        advance(batch, n, |chunk| {
            if let Chunk::Copied(mut vec, _) = chunk
                && vec.capacity() <= SPARE_BYTES_MAX
            {
                vec.clear();
                state.spare = vec;
            }
        });
        let waits = waits || !batch.is_empty();
        while let Some(chunk) = batch.pop() {
            state.queue.push_front(chunk);
        }
        state.full &= state.bytes > state.high_water / 4;
        drop(state);
        self.tell();
        waits
    }

    fn fail(&self, error: io::Error) {
        let mut state = self.state.borrow_mut();
        state.error.get_or_insert(error);
        state.queue.clear();
        state.bytes = 0;
        state.wake_pump();
        drop(state);
        self.tell();
    }

    fn abort(&self) {
        let error = io::Error::new(io::ErrorKind::ConnectionAborted, "the writer was aborted");
        self.fail(error);
        // By a plain call, which does not wait. It fails where the peer has ended it before.
        let _ = SockRef::from(&*self.fd).shutdown(Shutdown::Both);
        // It may be in a send to a peer that does not read.
        let task = self.state.borrow().task.clone();
        if let Some(task) = task {
            task.cancel();
        }
    }

    /// Until somebody wakes the task: who writes or waits, a send that is over, or who asks for a stop.
    /// Gives whether somebody had asked before: who asks now is heard of at the next park, or by what
    /// is awaited until then.
    async fn park(&self) -> bool {
        if checkpoint().is_err() {
            return true;
        }
        let mut parked = false;
        poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            if replace(&mut parked, true) {
                state.pump = Pump::Running;
                return Poll::Ready(());
            }
            state.pump = Pump::Parked(cx.waker().clone());
            Poll::Pending
        })
        .await;
        false
    }
}

/// Starts a send, for nobody who waits for it.
pub(super) async fn start(send: &mut Op<SendBatch>, keeps: Keeps) {
    poll_fn(|cx| {
        match keeps {
            Keeps::Spare => send.start_quietly(cx),
            Keeps::Buffers => send.start(cx),
        }
        Poll::Ready(())
    })
    .await;
}

/// What a send that is over keeps until somebody looks at it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// The room for what is written next.
    Spare,
    /// What others want back, or what is too much to keep.
    Buffers,
}

impl Keeps {
    fn of(batch: &[Chunk]) -> Self {
        match batch {
            [Chunk::Copied(vec, _)] if vec.capacity() <= SPARE_BYTES_MAX => Self::Spare,
            _ => Self::Buffers,
        }
    }
}

/// Sends what is written, until the connection is over, or until there is nothing left to send for
/// one that was asked to stop.
async fn pump(pump: Pumping) {
    let outgoing = &*pump.0;
    // Never comes: it is how a request to stop wakes a task that waits for nothing else.
    let mut never = Timer::at(Instant::FAR_FUTURE);
    let mut asked = poll_fn(|cx| Poll::Ready(Pin::new(&mut never).poll(cx).is_ready())).await;
    let mut batch = Vec::new();
    let mut waits = false;
    loop {
        match outgoing.next(&mut batch) {
            Step::Send => {
                let keeps = Keeps::of(&batch);
                let mut send = submit(SendBatch::new(&outgoing.fd, take(&mut batch), waits));
                if !waits && !asked && outgoing.is_quiet() {
                    start(&mut send, keeps).await;
                    asked = outgoing.park().await;
                }
                let BufResult(result, chunks) = send.await;
                batch = chunks;
                asked |= result.as_ref().is_err_and(|error| is_cancelled(error));
                waits = outgoing.sent(result, &mut batch);
            }
            Step::ShutDown(how) => match shut_down(&outgoing.fd, how).await {
                Err(error) if is_cancelled(&error) => asked = true,
                // The peer has reset it: nothing is left to shut down.
                _ => outgoing.has_ended(how),
            },
            Step::Park if asked => return,
            Step::Park => asked = outgoing.park().await,
            Step::Leave => return,
        }
    }
}

impl Outgoing {
    fn has_ended(&self, how: Shutdown) {
        self.state.borrow_mut().ended = match how {
            Shutdown::Both => End::Closed,
            _ => End::Eof,
        };
        self.tell();
    }
}

/// The pump's own hold on what it sends: also one that is dropped in the middle tells of it.
struct Pumping(Rc<Outgoing>);

impl Drop for Pumping {
    fn drop(&mut self) {
        let outgoing = &self.0;
        let mut state = outgoing.state.borrow_mut();
        let has_failed = state.error.is_some();
        let is_over = has_failed || state.ended == End::Closed;
        let is_whole = state.bytes == 0 && state.ended >= state.end;
        state.pump = if is_over || !is_whole {
            Pump::Over
        } else {
            Pump::None
        };
        let task = state.task.take();
        drop(state);
        drop(task);
        if !is_over && !is_whole {
            outgoing.fail(io::Error::new(
                io::ErrorKind::NotConnected,
                "the runtime ended before all was sent, or there was none",
            ));
        }
    }
}

/// Somebody waits, so the pump is not to be quiet.
struct Waiter<'a>(&'a Outgoing);

impl<'a> Waiter<'a> {
    fn new(outgoing: &'a Outgoing) -> Self {
        outgoing.waiters.set(outgoing.waiters.get() + 1);
        Self(outgoing)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiters.set(self.0.waiters.get() - 1);
    }
}

/// The error of who waits in another runtime for what tasks do in one that does not turn meanwhile.
pub(crate) fn elsewhere(what: &str) -> io::Error {
    let text =
        format!("{what} by a task of another runtime, which does not run here: await it there");
    io::Error::new(io::ErrorKind::NotConnected, text)
}

pub(crate) fn written_after_the_end() -> io::Error {
    let text = "what was written after the end of the stream goes nowhere";
    io::Error::new(io::ErrorKind::BrokenPipe, text)
}

/// The same error once more, as far as that goes: errors are told to each who asks.
fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

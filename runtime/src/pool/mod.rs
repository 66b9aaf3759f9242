//! Buffers that the kernel chooses from when something arrives (`IORING_REGISTER_PBUF_RING`): two
//! rings of them for a runtime, one for bytes and one for messages, and leases on what it has filled.
//!
//! # Who has a buffer
//!
//! ```text
//!            (1) a completion takes a part        (2) the kernel is done with it
//!   in the ring ───────────────▶ in the ring, leased ───────────────▶ leased
//!        ▲ ▲                            │                                │
//!        │ └──────(3) leases dropped────┘                                │
//!        └──────────────────────(4) last lease dropped───────────────────┘
//! ```
//!
//! 1, 2: [`State::consume`], in the order of completions; 3, 4: [`State::release`], and in 4 it may be
//! freed instead: then its number is vacant. Where buffers
//! are used up piece by piece (incremental consumption, since Linux 6.12) the kernel says with each
//! completion whether it goes on in the same one; elsewhere 1 and 2 are one. The range of a lease is
//! its own from 1 on: the kernel writes behind it.
//!
//! # Bytes and messages
//!
//! A message does not fit into the rest of a buffer that is used up piece by piece. The kernel does not
//! look for a fresh one: it cuts a datagram that would have fitted there, and where not even a
//! recvmsg's header has room it gives EFAULT, for that and every later one (M). So messages have a ring
//! of their own, with buffers that are used whole. Which of the two a completion's buffer is of stands
//! in its number ([`OF_WHOLE`]).

mod block;
mod lease;
mod ring;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

pub use lease::Lease;
pub(crate) use ring::{BufRing, Entry};

use crate::current;
use crate::driver::Driver;
use crate::op::Cqe;
use block::Block;

/// `IORING_CQE_F_BUFFER`: the upper half of `flags` is the number of a buffer.
pub(crate) const F_BUFFER: u32 = 1 << 0;
/// `IORING_CQE_F_BUF_MORE`: the kernel goes on in the same buffer.
pub(crate) const F_BUF_MORE: u32 = 1 << 4;
pub(crate) const BUFFER_SHIFT: u32 = 16;

/// Where the kernel cannot use buffers for bytes piece by piece, they are no larger than this: what
/// comes at once has one.
const PIECE_BYTES_MAX: u32 = 16 * 1024;

/// A buffer for a message: the largest datagram of UDP (64 KiB, also where the kernel has put several
/// together), with its head.
const WHOLE_BYTES: u32 = 64 * 1024 + HEAD_BYTES;

/// What of such a buffer is initialised from the beginning: the kernel writes to the head of a message
/// in parts, and counts all of it.
const HEAD_BYTES: u32 = 4 * 1024;

/// Buffers for messages, for each one for bytes: the kernel receives up to 32 messages at once (M),
/// and as many may wait for a receiver as it is bounded to.
const WHOLE_SHARE: u16 = 16;

/// In the number of a buffer that is used whole.
const OF_WHOLE: u16 = 1 << 15;

/// Below so many in the ring it grows. The kernel takes up to 20 completions in one enter, so
/// that it may find none in spite of this; then a receive ends with ENOBUFS and starts again.
const FREE_MIN: usize = 2;

/// What a pool is made to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) bytes: u32,
    pub(crate) count: u16,
    pub(crate) count_max: u16,
}

impl Config {
    pub(crate) const DEFAULT: Self = Self {
        bytes: 64 * 1024,
        count: 8,
        count_max: 1_024,
    };
}

/// A pool of provided buffers of a runtime: what its multishot receives are filled from. There is one
/// for bytes ([`current`](Self::current)) and one for messages ([`whole`](Self::whole)).
///
/// A [`Request`](crate::Request) that selects a buffer names the pool's [`group`](Self::group) and
/// sets `IOSQE_BUFFER_SELECT`; it goes to [`submit_multishot`](crate::submit_multishot). Each
/// completion with a buffer is made a [`Lease`] by [`lease`](Self::lease), which the operation must
/// do with every one, in `complete` and in `orphaned`: a completion that is dropped keeps its buffer.
///
/// There are few buffers at first, so that they stay in the processor's cache; when they are in use
/// the pool grows, to a limit (see [`Builder::buffer_count`](crate::Builder::buffer_count)), and gives
/// back what is not needed any more.
#[derive(Clone)]
pub struct BufPool(Rc<RefCell<State>>);

pub(crate) struct State {
    ring: BufRing,
    buffers: Vec<Buffer>,
    /// Numbers of buffers that there are no more.
    vacant: Vec<u16>,
    group: Group,
    bytes: u32,
    count: u16,
    count_max: u16,
    /// Whether the kernel uses a buffer up piece by piece.
    incremental: bool,
    /// In the number of each: [`OF_WHOLE`], or nothing.
    mark: u16,
    /// Buffers that the kernel can fill, or is filling.
    free: usize,
    /// Ranges that are leased.
    leases: usize,
}

struct Buffer {
    /// Shared with bytes that were detached; none if the number is vacant.
    block: Option<Arc<Block>>,
    /// What the kernel has filled of it.
    used: u32,
    leases: u32,
    in_ring: bool,
}

/// How the provided buffers of a runtime are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferCounts {
    /// Buffers that there are.
    pub total: usize,
    /// Those that the kernel can fill, or is filling.
    pub free: usize,
    /// Ranges that were received and not given back.
    pub leases: usize,
}

/// Numbers that living pools have, a bit each. A pool keeps its own until it is dropped, on whichever
/// ring, so that a request that names the pool of another runtime finds no buffers instead of strange
/// ones. One that is leaked keeps it for ever.
static GROUPS: Mutex<[u64; GROUP_WORDS]> = Mutex::new([0; GROUP_WORDS]);

const GROUP_WORDS: usize = (1 << 16) / 64;

/// The number of a pool's group, its own as long as this lives.
struct Group(u16);

impl Group {
    fn new() -> io::Result<Self> {
        let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
        for (word, i) in groups.iter_mut().zip(0..) {
            let bit = word.trailing_ones();
            if bit < u64::BITS {
                *word |= 1 << bit;
                return Ok(Self(i * 64 + bit as u16));
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "65,536 pools of provided buffers are alive: drop runtimes, or what was received by them",
        ))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
        groups[usize::from(self.0 / 64)] &= !(1 << (self.0 % 64));
    }
}

impl BufPool {
    /// The pool for bytes of the runtime that is turning. The first call makes it. Where the kernel
    /// can (since Linux 6.12) it fills a buffer piece by piece, so a message may come cut: see
    /// [`whole`](Self::whole).
    ///
    /// # Errors
    /// `NotConnected` outside of a runtime; `Unsupported` if the kernel has no provided buffers.
    pub fn current() -> io::Result<Self> {
        Self::of_runtime(Use::Bytes)
    }

    /// The pool for messages of the runtime that is turning: each completion has a buffer of its own,
    /// of 68 KiB, into which any datagram of UDP fits. The first call makes it.
    ///
    /// The first 4 KiB of a buffer are initialised from the beginning: a multishot receive with
    /// addresses and control messages leaves gaps between these.
    ///
    /// # Errors
    /// As [`current`](Self::current).
    pub fn whole() -> io::Result<Self> {
        Self::of_runtime(Use::Messages)
    }

    fn of_runtime(what_for: Use) -> io::Result<Self> {
        current::with(|current| match current {
            Some((runtime, _)) => runtime.core().pool(what_for),
            None => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "provided buffers are a runtime's: ask for them from within `coring::run`",
            )),
        })
    }

    fn for_bytes(config: Config, driver: &mut Driver) -> io::Result<Self> {
        // Where a buffer is used at once there are more, smaller ones: it is not known yet.
        let share = (config.bytes / PIECE_BYTES_MAX).max(1) as u16;
        let pieces = Config {
            bytes: config.bytes.min(PIECE_BYTES_MAX),
            count: config.count.saturating_mul(share),
            count_max: config.count_max.saturating_mul(share),
        };
        let (ring, group) = Self::ring(pieces.count_max)?;
        let incremental = driver.register_buf_ring(group.0, &ring, true)?;
        let config = if incremental { config } else { pieces };
        Ok(Self::new(ring, group, config, incremental, 0))
    }

    fn for_messages(config: Config, driver: &mut Driver) -> io::Result<Self> {
        let (ring, group) = Self::ring(config.count_max)?;
        driver.register_buf_ring(group.0, &ring, false)?;
        let config = Config {
            bytes: WHOLE_BYTES,
            count: config.count.saturating_mul(WHOLE_SHARE),
            count_max: config.count_max,
        };
        Ok(Self::new(ring, group, config, false, OF_WHOLE))
    }

    /// A ring for so many buffers, and the number of its group.
    fn ring(count_max: u16) -> io::Result<(BufRing, Group)> {
        let places = count_max.min(OF_WHOLE).next_power_of_two();
        Ok((BufRing::new(places), Group::new()?))
    }

    fn new(ring: BufRing, group: Group, config: Config, incremental: bool, mark: u16) -> Self {
        let count_max = config.count_max.min(ring.places());
        let mut state = State {
            ring,
            buffers: Vec::new(),
            vacant: Vec::new(),
            group,
            bytes: config.bytes,
            count: config.count.min(count_max),
            count_max,
            incremental,
            mark,
            free: 0,
            leases: 0,
        };
        state.grow(state.count.into());
        Self(Rc::new(RefCell::new(state)))
    }

    /// The number by which requests name the pool.
    pub fn group(&self) -> u16 {
        self.0.borrow().group.0
    }

    /// Whether the kernel has a buffer to fill, or gets one by this. A receive that starts without
    /// one ends at once, with ENOBUFS.
    pub fn has_free(&self) -> bool {
        let mut state = self.0.borrow_mut();
        if state.free == 0 {
            let by = state.total().max(1);
            state.grow(by);
        }
        state.free > 0
    }

    /// Whether the pool cannot grow any more.
    pub fn is_full(&self) -> bool {
        let state = self.0.borrow();
        state.total() >= state.count_max.into()
    }

    /// What the kernel received, of a request that named this pool. Empty at the end of a stream.
    ///
    /// # Errors
    /// The completion's.
    ///
    /// # Safety
    /// The request of the completion named this pool's group. The kernel has written all of the bytes
    /// that it counts, but for some in the first 4 KiB of a buffer of [`whole`](Self::whole).
    pub unsafe fn lease(&self, cqe: Cqe) -> io::Result<Lease> {
        let flags = cqe.flags();
        if !has_buffer(flags) {
            return cqe.result().map(|_| Lease::empty());
        }
        let bid = number_of(flags);
        let start = self.0.borrow().start_of(bid, cqe.place());
        let len = cqe.res().max(0) as u32;
        // SAFETY: the kernel has filled these bytes for the completion and is done with them (R5), or
        // they were initialised before (`HEAD_BYTES`). That was counted as a lease in `consume` and is
        // used up here (R6).
        let lease = unsafe { Lease::of_pool(self.clone(), bid, start, len) };
        cqe.result().map(|_| lease)
    }

    fn counts(&self) -> BufferCounts {
        let state = self.0.borrow();
        BufferCounts {
            total: state.total(),
            free: state.free,
            leases: state.leases,
        }
    }
}

/// What a pool is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Bytes,
    Messages,
}

/// A runtime's pools, each there once somebody asked for it.
pub(crate) struct Pools {
    config: Config,
    bytes: Option<BufPool>,
    messages: Option<BufPool>,
}

impl Pools {
    pub(crate) const fn new(config: Config) -> Self {
        Self {
            config,
            bytes: None,
            messages: None,
        }
    }

    pub(crate) fn get(&mut self, what_for: Use, driver: &mut Driver) -> io::Result<BufPool> {
        let (pool, make): (_, fn(Config, &mut Driver) -> _) = match what_for {
            Use::Bytes => (&mut self.bytes, BufPool::for_bytes),
            Use::Messages => (&mut self.messages, BufPool::for_messages),
        };
        if let Some(pool) = pool {
            return Ok(pool.clone());
        }
        Ok(pool.insert(make(self.config, driver)?).clone())
    }

    /// Looks at a completion with a buffer, each once and in their order. Gives where in the buffer its
    /// bytes are.
    #[inline]
    pub(crate) fn consume(&self, res: i32, flags: u32) -> u32 {
        self.of(flags)
            .map_or(0, |pool| pool.0.borrow_mut().consume(res, flags))
    }

    /// The same, of a completion that nobody will take a lease of: its buffer goes back.
    #[cold]
    pub(crate) fn discard(&self, res: i32, flags: u32) {
        if let Some(pool) = self.of(flags) {
            let mut state = pool.0.borrow_mut();
            state.consume(res, flags);
            state.release(number_of(flags));
        }
    }

    /// The pool that a completion's buffer is of.
    #[inline]
    const fn of(&self, flags: u32) -> Option<&BufPool> {
        if is_whole(flags) {
            self.messages.as_ref()
        } else {
            self.bytes.as_ref()
        }
    }

    pub(crate) fn counts(&self) -> BufferCounts {
        let mut sum = BufferCounts::default();
        for pool in self.bytes.iter().chain(&self.messages) {
            let BufferCounts {
                total,
                free,
                leases,
            } = pool.counts();
            sum.total += total;
            sum.free += free;
            sum.leases += leases;
        }
        sum
    }

    /// What is in flight may still be written to after the ring is closed: counted for ever.
    pub(crate) fn leak(&mut self) {
        for pool in self.bytes.take().into_iter().chain(self.messages.take()) {
            let _ = Rc::into_raw(pool.0);
        }
    }
}

/// Whether a completion has a buffer.
#[inline]
pub(crate) const fn has_buffer(flags: u32) -> bool {
    flags & F_BUFFER != 0
}

/// Whether the buffer of a completion that has one is its alone.
#[inline]
pub(crate) const fn is_whole(flags: u32) -> bool {
    number_of(flags) & OF_WHOLE != 0
}

const fn number_of(flags: u32) -> u16 {
    (flags >> BUFFER_SHIFT) as u16
}

const fn index_of(bid: u16) -> usize {
    (bid & !OF_WHOLE) as usize
}

impl State {
    fn consume(&mut self, res: i32, flags: u32) -> u32 {
        let buffer = &mut self.buffers[index_of(number_of(flags))];
        let at = buffer.used;
        buffer.used += res.max(0) as u32;
        assert!(
            buffer.used <= self.bytes,
            "the kernel used more of a buffer than there is"
        );
        buffer.leases += 1;
        self.leases += 1;
        if flags & F_BUF_MORE == 0 {
            buffer.in_ring = false;
            self.free -= 1;
            if self.free < FREE_MIN {
                let by = self.total();
                self.grow(by);
            }
        }
        at
    }

    fn start_of(&self, bid: u16, at: u32) -> NonNull<u8> {
        assert!(at <= self.bytes);
        // SAFETY: within the block, which has `bytes` bytes and stays while a lease is counted (R1).
        unsafe { self.block_of(bid).start().add(at as usize) }
    }

    /// Another lease on the same buffer.
    fn share(&mut self, bid: u16) {
        self.buffers[index_of(bid)].leases += 1;
        self.leases += 1;
    }

    #[inline]
    fn release(&mut self, bid: u16) {
        let buffer = &mut self.buffers[index_of(bid)];
        buffer.leases -= 1;
        self.leases -= 1;
        if buffer.leases == 0 && !buffer.in_ring {
            self.come_back(bid);
        }
    }

    /// A buffer is used up and given back.
    fn come_back(&mut self, bid: u16) {
        let total = self.total();
        // After a burst: at most half of them are kept for the next one.
        if total > self.count.into() && self.free > total / 2 {
            self.buffers[index_of(bid)].block = None;
            self.vacant.push(bid);
        } else {
            self.provide(bid);
        }
    }

    /// Buffers that there are.
    fn total(&self) -> usize {
        self.buffers.len() - self.vacant.len()
    }

    /// Has the kernel fill a buffer from its start.
    fn provide(&mut self, bid: u16) {
        let buffer = &mut self.buffers[index_of(bid)];
        let own = |block: &mut Arc<Block>| Arc::get_mut(block).is_some();
        if !buffer.block.as_mut().is_some_and(own) {
            // A new one, or somebody has detached bytes of it: they keep it.
            let head = if self.mark == OF_WHOLE { HEAD_BYTES } else { 0 };
            buffer.block = Some(Arc::new(Block::new(self.bytes, head)));
        }
        let start = buffer.block.as_ref().map(|block| block.start().as_ptr());
        let start = start.expect("it is there now");
        self.ring.push(start, self.bytes, bid);
        buffer.used = 0;
        buffer.in_ring = true;
        self.free += 1;
    }

    #[cold]
    fn grow(&mut self, by: usize) {
        let until = (self.total() + by).min(self.count_max.into());
        while self.total() < until {
            let bid = self.vacant.pop().unwrap_or_else(|| {
                self.buffers.push(Buffer {
                    block: None,
                    used: 0,
                    leases: 0,
                    in_ring: false,
                });
                (self.buffers.len() - 1) as u16 | self.mark
            });
            self.provide(bid);
        }
    }

    /// The memory of a buffer of which there is a lease.
    fn block_of(&self, bid: u16) -> &Arc<Block> {
        let block = self.buffers[index_of(bid)].block.as_ref();
        block.expect("a buffer that is leased is there")
    }
}

impl fmt::Debug for BufPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.borrow();
        f.debug_struct("BufPool")
            .field("group", &state.group.0)
            .field("bytes", &state.bytes)
            .field("incremental", &state.incremental)
            .field("counts", &self.counts())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Group;

    #[test]
    fn number_of_a_living_pool_is_nobody_elses() {
        let held = Group::new().expect("there are few");
        for _ in 0..if cfg!(miri) { 100 } else { 70_000 } {
            assert_ne!(Group::new().expect("there are few").0, held.0);
        }
    }
}

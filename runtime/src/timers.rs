//! Deadlines that wait in user space: a 4-ary heap whose front is the one kernel timeout.
//!
//! The heap knows who waits by number and generation. Who leaves says so, and is swept out when
//! half of the heap has left: a program that arms a million timeouts and cancels nearly all of
//! them keeps few. So no waiter has to be told its place, which for a million of them is a cache
//! miss for each place that changes.

use std::time::Duration;

use crate::Instant;
use crate::op::Key;
use crate::scope::{ScopeIndex, ScopeKey};

/// How deadlines wait: sleeps, and limits around operations.
///
/// A limit travels into the kernel as a timeout that is linked behind the operation it is around, so
/// that nobody has to wake up and cancel it. That costs 0.8 µs for each operation (Linux 6.18), and
/// most limits never pass; in the heap one costs 0.3 µs, and a cancel if it passes.
///
/// No sleep ends early. From the heap, one may end up to 50 µs later than it would alone, together
/// with others that are due by then: what Linux allows itself for the timers of any thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Timers {
    /// A kernel timeout for each sleep while few are armed, the heap beyond
    /// [`Timers::KERNEL_MAX`]; for limits, linked timeouts.
    #[default]
    Auto,
    /// A kernel timeout for each sleep, always: cancelling one walks a list, so keep them few. For
    /// limits, linked timeouts.
    Kernel,
    /// The heap, always, for limits too: for servers in which nearly each operation has one that
    /// hardly ever passes.
    Heap,
}

impl Timers {
    /// How many kernel timeouts [`Timers::Auto`] arms. Measured on Linux 6.18: taking one out
    /// costs 0.3 µs behind 64 others, 5.5 µs behind 1,024, 120 ms behind a million.
    pub const KERNEL_MAX: u32 = 64;
}

/// Who waits for a deadline, in a word.
#[derive(Clone, Copy)]
struct Entry {
    deadline: Instant,
    /// A key of the table, or with the top bit one of the scopes.
    waiter: u64,
}

const SCOPE: u64 = 1 << 63;

/// Who waits for a deadline: a slot of the table, or a scope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiter {
    Slot(Key),
    Scope(ScopeKey),
}

impl Entry {
    const fn new(deadline: Instant, waiter: Waiter) -> Self {
        let waiter = match waiter {
            Waiter::Slot(key) => key.word(),
            Waiter::Scope(ScopeKey { index, generation }) => {
                SCOPE | (index.get() as u64) << 32 | generation as u64
            }
        };
        Self { deadline, waiter }
    }

    const fn waiter(self) -> Waiter {
        if self.waiter & SCOPE == 0 {
            return Waiter::Slot(Key::from_word(self.waiter));
        }
        Waiter::Scope(ScopeKey {
            index: ScopeIndex::new(((self.waiter & !SCOPE) >> 32) as u32),
            generation: self.waiter as u32,
        })
    }
}

const ARITY: usize = 4;

/// A node's children, in a cache line. What is not there yet never comes.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Children([Entry; ARITY]);

const _: () = assert!(size_of::<Children>() == 64);

const NOBODY: Entry = Entry {
    deadline: Instant::FAR_FUTURE,
    waiter: 0,
};

#[derive(Default)]
pub(crate) struct Heap {
    /// The children of entry `n` are in line `n + 1`; the first line ends with the root.
    lines: Vec<Children>,
    len: usize,
    /// Entries whose waiter has left, at the most.
    left: usize,
}

/// How much later than the first of them a loop may wake up for several deadlines. What Linux gives
/// the timers of a thread by default (prctl(2), PR_SET_TIMERSLACK); one that is alone is on time.
const SLACK: Duration = Duration::from_micros(50);

/// Deadlines that are looked through for that.
const CLUSTER_MAX: usize = 32;

/// So many entries may wait to be swept out, whatever else is there.
const LEFT_MIN: usize = 64;

impl Heap {
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, deadline: Instant, waiter: Waiter) {
        debug_assert!(deadline < Instant::FAR_FUTURE, "it never comes");
        let hole = self.len;
        if place(hole).0 == self.lines.len() {
            self.lines.push(Children([NOBODY; ARITY]));
        }
        self.len += 1;
        self.up(hole, Entry::new(deadline, waiter));
    }

    /// The first deadline, and who waits for it, or has.
    pub(crate) fn first(&self) -> Option<(Instant, Waiter)> {
        let first = (self.len > 0).then(|| self.get(0))?;
        Some((first.deadline, first.waiter()))
    }

    /// The last deadline that is not later than `SLACK` after the first, among those that are
    /// easily found: when to wake up for all of them at once.
    pub(crate) fn first_cluster(&self) -> Option<Instant> {
        let mut latest = self.first()?.0;
        let limit = latest + SLACK;
        // Those up to `limit` are a tree at the heap's front.
        let mut found = [0; CLUSTER_MAX];
        let (mut seen, mut len) = (0, 1);
        while seen < len && len < CLUSTER_MAX {
            for (at, child) in self.children(found[seen]) {
                if child.deadline <= limit && len < CLUSTER_MAX {
                    found[len] = at;
                    len += 1;
                    latest = latest.max(child.deadline);
                }
            }
            seen += 1;
        }
        Some(latest)
    }

    /// Takes out the first entry; `left` if its waiter had.
    pub(crate) fn pop(&mut self, left: bool) {
        self.left = self.left.saturating_sub(usize::from(left));
        let Some(end) = self.len.checked_sub(1) else {
            return;
        };
        let last = self.get(end);
        self.truncate(end);
        if end > 0 {
            // It came from the bottom, and nearly always goes back there.
            let hole = self.down(0);
            self.up(hole, last);
        }
    }

    /// A waiter has left. `true`: it is time to [`sweep`](Self::sweep).
    pub(crate) fn leave(&mut self) -> bool {
        self.left += 1;
        self.left >= self.len || self.left > self.len / 2 + LEFT_MIN
    }

    /// Takes out all whose waiter does not wait any more.
    pub(crate) fn sweep(&mut self, mut waits: impl FnMut(Instant, Waiter) -> bool) {
        let mut kept = 0;
        for at in 0..self.len {
            let entry = self.get(at);
            if waits(entry.deadline, entry.waiter()) {
                self.set(kept, entry);
                kept += 1;
            }
        }
        self.truncate(kept);
        self.left = 0;
        for at in (0..kept.div_ceil(ARITY)).rev() {
            let entry = self.get(at);
            self.settle(at, entry);
        }
    }

    /// Moves the least below `hole` up, until there is none.
    fn down(&mut self, mut hole: usize) -> usize {
        while let Some((least, entry)) = self.least_child(hole) {
            self.set(hole, entry);
            hole = least;
        }
        hole
    }

    /// Puts `entry` at `hole` or below, where it belongs.
    fn settle(&mut self, mut hole: usize, entry: Entry) {
        while let Some((least, child)) = self.least_child(hole) {
            if entry.deadline <= child.deadline {
                break;
            }
            self.set(hole, child);
            hole = least;
        }
        self.set(hole, entry);
    }

    /// Puts `entry` at `hole` or above, where it belongs.
    fn up(&mut self, mut hole: usize, entry: Entry) {
        while hole > 0 {
            let parent = (hole - 1) / ARITY;
            let above = self.get(parent);
            if above.deadline <= entry.deadline {
                break;
            }
            self.set(hole, above);
            hole = parent;
        }
        self.set(hole, entry);
    }

    fn least_child(&self, parent: usize) -> Option<(usize, Entry)> {
        let least = self
            .children(parent)
            .min_by_key(|(_, child)| child.deadline)?;
        (least.1.deadline != NOBODY.deadline).then_some(least)
    }

    fn children(&self, parent: usize) -> impl Iterator<Item = (usize, Entry)> {
        let line = self.lines.get(parent + 1).into_iter();
        let children = line.flat_map(|line| line.0);
        (parent * ARITY + 1..).zip(children)
    }

    fn get(&self, at: usize) -> Entry {
        let (line, place) = place(at);
        self.lines[line].0[place]
    }

    fn set(&mut self, at: usize, entry: Entry) {
        let (line, place) = place(at);
        self.lines[line].0[place] = entry;
    }

    fn truncate(&mut self, len: usize) {
        for at in len..self.len {
            self.set(at, NOBODY);
        }
        self.len = len;
    }
}

/// The line of an entry, and its place there.
const fn place(at: usize) -> (usize, usize) {
    let from_start = at + ARITY - 1;
    (from_start / ARITY, from_start % ARITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes, leaves from anywhere, sweeps and pops in a random order, against a list.
    #[test]
    fn heap_agrees_with_a_list() {
        const STEPS: usize = if cfg!(miri) { 500 } else { 20_000 };
        let mut heap = Heap::default();
        let mut model: Vec<(Instant, Waiter)> = Vec::new();
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for step in 0..STEPS {
            match next(8) {
                0..4 => {
                    let deadline = Instant::from_nanos(next(1_000));
                    let waiter = match next(2) {
                        0 => Waiter::Slot(Key::from_word(step as u64)),
                        _ => Waiter::Scope(ScopeKey {
                            index: ScopeIndex::new(next(1 << 28) as u32),
                            generation: step as u32,
                        }),
                    };
                    heap.push(deadline, waiter);
                    model.push((deadline, waiter));
                }
                4 | 5 if !model.is_empty() => {
                    model.swap_remove(next(model.len() as u64) as usize);
                    if heap.leave() {
                        heap.sweep(|_, waiter| model.iter().any(|&(_, waits)| waits == waiter));
                    }
                }
                _ => {
                    while let Some((deadline, waiter)) = heap.first() {
                        let at = model.iter().position(|&(_, waits)| waits == waiter);
                        heap.pop(at.is_none());
                        if let Some(at) = at {
                            let due = model.swap_remove(at).0;
                            assert_eq!(due, deadline);
                            assert!(model.iter().all(|&(other, _)| other >= due), "not first");
                            break;
                        }
                    }
                }
            }
            assert!(heap.len() >= model.len());
            assert!(
                heap.len() <= 2 * model.len() + 2 * LEFT_MIN + 2,
                "left ones pile up"
            );
        }
    }

    #[test]
    fn deadlines_close_behind_the_first_are_waited_for_with_it() {
        let slack = SLACK.as_nanos() as u64;
        let mut heap = Heap::default();
        assert_eq!(heap.first_cluster(), None);
        let mut expect = |deadline: u64, cluster: u64| {
            heap.push(
                Instant::from_nanos(deadline),
                Waiter::Slot(Key::from_word(0)),
            );
            assert_eq!(heap.first_cluster(), Some(Instant::from_nanos(cluster)));
        };
        expect(1_000 + slack, 1_000 + slack);
        expect(1_001 + 2 * slack, 1_000 + slack);
        expect(1_000, 1_000 + slack);
        expect(999, 1_000);
        // Of very many, some: what is looked through is bounded.
        for n in 0..1_000 {
            heap.push(
                Instant::from_nanos(1_001 + n),
                Waiter::Slot(Key::from_word(0)),
            );
        }
        let cluster = heap.first_cluster().map(Instant::as_nanos);
        assert!(cluster.is_some_and(|at| (1_001..=2_000).contains(&at)));
    }

    #[test]
    fn heap_whose_waiters_have_all_left_is_swept_out() {
        let mut heap = Heap::default();
        for n in 0..10 {
            heap.push(Instant::from_nanos(n), Waiter::Slot(Key::from_word(n)));
        }
        let swept: Vec<bool> = (0..10).map(|_| heap.leave()).collect();
        assert_eq!(swept.iter().position(|&swept| swept), Some(9));
        heap.sweep(|_, _| false);
        assert!(heap.is_empty());
    }
}

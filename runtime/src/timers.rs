//! Deadlines that wait in user space: a 4-ary heap whose front is the one kernel timeout.
//!
//! The heap knows what it holds by number and tells each holder its place, so that one that is
//! cancelled leaves at once, in O(log n), from wherever it is: a program that arms a million
//! timeouts and cancels nearly all of them keeps none.

use crate::Instant;

/// How deadlines wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Timers {
    /// A kernel timeout for each sleep while few are armed, the heap beyond
    /// [`Timers::KERNEL_MAX`].
    #[default]
    Auto,
    /// A kernel timeout for each sleep, always: cancelling one walks a list, so keep them few.
    Kernel,
    /// The heap, always.
    Heap,
}

impl Timers {
    /// How many kernel timeouts [`Timers::Auto`] arms. Measured on Linux 6.18: taking one out
    /// costs 0.3 µs behind 64 others, 5.5 µs behind 1,024, 120 ms behind a million.
    pub const KERNEL_MAX: u32 = 64;
}

/// Who waits for a deadline: a slot of the table, or a scope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiter {
    Slot(u32),
    Scope(u32),
}

/// A place in the heap, kept by the waiter. `NOWHERE` when it is not there.
pub(crate) const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Entry {
    deadline: Instant,
    waiter: Waiter,
}

#[derive(Default)]
pub(crate) struct Heap {
    entries: Vec<Entry>,
}

const ARITY: usize = 4;

impl Heap {
    pub(crate) fn first(&self) -> Option<Instant> {
        self.entries.first().map(|entry| entry.deadline)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a waiter; `moved` is told each place that changes.
    pub(crate) fn push(
        &mut self,
        deadline: Instant,
        waiter: Waiter,
        mut moved: impl FnMut(Waiter, u32),
    ) {
        self.entries.push(Entry { deadline, waiter });
        self.up(self.entries.len() - 1, &mut moved);
    }

    /// Takes out the waiter at `place`.
    pub(crate) fn remove(&mut self, place: u32, mut moved: impl FnMut(Waiter, u32)) -> Waiter {
        let at = place as usize;
        let removed = self.entries.swap_remove(at);
        moved(removed.waiter, NOWHERE);
        if at < self.entries.len() {
            // The last one took the place: it belongs above or below it.
            let at = self.up(at, &mut moved);
            self.down(at, &mut moved);
        }
        removed.waiter
    }

    /// Takes out the first waiter if its time has come.
    pub(crate) fn pop_due(
        &mut self,
        now: Instant,
        moved: impl FnMut(Waiter, u32),
    ) -> Option<Waiter> {
        (self.first()? <= now).then(|| self.remove(0, moved))
    }

    fn up(&mut self, mut at: usize, moved: &mut impl FnMut(Waiter, u32)) -> usize {
        let entry = self.entries[at];
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if self.entries[parent].deadline <= entry.deadline {
                break;
            }
            self.put(at, self.entries[parent], moved);
            at = parent;
        }
        self.put(at, entry, moved);
        at
    }

    fn down(&mut self, mut at: usize, moved: &mut impl FnMut(Waiter, u32)) {
        let entry = self.entries[at];
        loop {
            let first = at * ARITY + 1;
            let children = first..(first + ARITY).min(self.entries.len());
            let Some(least) = children.min_by_key(|&child| self.entries[child].deadline) else {
                break;
            };
            if entry.deadline <= self.entries[least].deadline {
                break;
            }
            self.put(at, self.entries[least], moved);
            at = least;
        }
        self.put(at, entry, moved);
    }

    fn put(&mut self, at: usize, entry: Entry, moved: &mut impl FnMut(Waiter, u32)) {
        self.entries[at] = entry;
        moved(entry.waiter, at as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes, removes from anywhere and pops in a random order, against a sorted list.
    #[test]
    fn heap_agrees_with_a_sorted_list() {
        let mut heap = Heap::default();
        let mut places = vec![NOWHERE; 400];
        let mut model: Vec<(u64, u32)> = Vec::new();
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for _ in 0..20_000 {
            let mut moved = |waiter: Waiter, place: u32| {
                let Waiter::Slot(slot) = waiter else {
                    unreachable!("only slots here")
                };
                places[slot as usize] = place;
            };
            let slot = next(400) as u32;
            let armed = model.iter().position(|&(_, armed)| armed == slot);
            match (next(4), armed) {
                (0 | 1, None) => {
                    let deadline = next(1_000);
                    heap.push(
                        Instant::from_nanos(deadline),
                        Waiter::Slot(slot),
                        &mut moved,
                    );
                    model.push((deadline, slot));
                }
                (2, Some(at)) => {
                    model.swap_remove(at);
                    let place = places[slot as usize];
                    let mut moved = |waiter: Waiter, place: u32| {
                        let Waiter::Slot(slot) = waiter else {
                            unreachable!("only slots here")
                        };
                        places[slot as usize] = place;
                    };
                    assert_eq!(heap.remove(place, &mut moved), Waiter::Slot(slot));
                    assert_eq!(places[slot as usize], NOWHERE);
                }
                _ => {
                    let now = next(1_000);
                    let due = heap.pop_due(Instant::from_nanos(now), &mut moved);
                    let least = model.iter().copied().min_by_key(|&(deadline, _)| deadline);
                    match (due, least) {
                        (Some(Waiter::Slot(slot)), Some((deadline, _))) => {
                            let at = model
                                .iter()
                                .position(|&(_, armed)| armed == slot)
                                .expect("what comes out had gone in");
                            assert_eq!(model[at].0, deadline, "not the earliest");
                            assert!(deadline <= now);
                            model.swap_remove(at);
                        }
                        (None, least) => assert!(least.is_none_or(|(deadline, _)| deadline > now)),
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert_eq!(heap.len(), model.len());
        }
    }
}

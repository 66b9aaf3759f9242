//! The tasks of a runtime, and which of them are ready to run.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;

use slab::Slab;

use super::cell::TaskCell;
use super::waker::TaskNumber;
use crate::op::table::room_to_add;

pub(crate) struct Tasks {
    entries: Slab<Entry>,
    ready: VecDeque<u32>,
    /// Tasks made so far; the generation of the next.
    spawned: u32,
}

struct Entry {
    cell: TaskCell,
    generation: u32,
    /// In the ready queue: each task is there once.
    queued: bool,
}

const _: () = assert!(size_of::<Option<Entry>>() == 16);

impl Tasks {
    pub(crate) const fn new() -> Self {
        Self {
            entries: Slab::new(),
            ready: VecDeque::new(),
            spawned: 0,
        }
    }

    /// Takes a new task in and queues it. `true` with it: the inbox must grow first.
    pub(crate) fn insert(&mut self, cell: TaskCell) -> u32 {
        self.spawned = self.spawned.wrapping_add(1);
        let generation = self.spawned;
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(room_to_add(self.entries.len()));
        }
        let vacant = self.entries.vacant_entry();
        let index = vacant.key() as u32;
        cell.header().index.set(index);
        cell.header().generation.set(generation);
        vacant.insert(Entry {
            cell,
            generation,
            queued: true,
        });
        self.ready.push_back(index);
        index
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<TaskCell> {
        self.entries
            .try_remove(index as usize)
            .map(|entry| entry.cell)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&TaskCell> {
        self.entries.get(index as usize).map(|entry| &entry.cell)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TaskCell> {
        self.entries.iter().map(|(_, entry)| &entry.cell)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether the task at `index` is in the ready queue.
    pub(crate) fn is_queued(&self, index: u32) -> bool {
        let entry = self.entries.get(index as usize);
        entry.is_some_and(|entry| entry.queued)
    }

    /// Queues the task of a waker, unless that one has ended or is queued.
    pub(crate) fn wake(&mut self, number: TaskNumber) {
        if let Some(entry) = self.entries.get_mut(number.index() as usize)
            && number.means(entry.generation)
            && !entry.queued
        {
            entry.queued = true;
            self.ready.push_back(number.index());
        }
    }

    /// Queues the task at `index`, whichever it is by now.
    pub(crate) fn wake_index(&mut self, index: u32) {
        if let Some(entry) = self.entries.get_mut(index as usize)
            && !entry.queued
        {
            entry.queued = true;
            self.ready.push_back(index);
        }
    }

    /// Reads the header of the task that runs next but one, so that it comes into the cache while
    /// the next one is polled.
    fn touch_next(&self) {
        if let Some(&index) = self.ready.front()
            && let Some(entry) = self.entries.get(index as usize)
        {
            std::hint::black_box(entry.cell.is_last());
        }
    }

    /// The next task to run, with its generation; it is the caller's until it is removed from here.
    pub(crate) fn pop(&mut self) -> Option<(ManuallyDrop<TaskCell>, u32)> {
        loop {
            let index = self.ready.pop_front()?;
            // Vacant if it ended otherwise; if another task has its place it is queued itself.
            if let Some(entry) = self.entries.get_mut(index as usize) {
                if !entry.queued {
                    continue;
                }
                entry.queued = false;
                // SAFETY: the reference here is counted until `remove`, and no task is removed while
                // it is polled (R10).
                let task = (unsafe { entry.cell.uncounted() }, entry.generation);
                self.touch_next();
                return Some(task);
            }
        }
    }
}

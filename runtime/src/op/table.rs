//! The table of leaves: a slot for everything that a task can wait for.
//!
//! # States
//!
//! ```text
//!              (1) no place in the queue            (2) placed
//!   ┌──────────────────────▶ Queued ──────────────────┐
//!   │                          │ (5) cancelled        ▼
//! new ──────────────────(2)────┼──────────────▶   InFlight ──(3) final completion──▶ Done ──┐
//!   │                          └───────────────────▶ Done         │                         │
//!   │                                                 (4) future dropped       (6) fetched, │
//!   │                                                     ▼                        dropped  │
//!   │                                                 Orphaned ──(3)──▶ vacant ◀────────────┤
//!   └──▶ Waiting ──(7) due, granted, or cancelled──▶ Done ──────────────────────────────────┘
//! ```
//!
//! 1, 2: `Core::start`, `Core::flush`; 3: `Core::complete`; 4: `Core::abandon`; 5, 7:
//! `Core::hit` and `Core::expire`; 6: `Core::fetch` and `Core::release`. The kernel knows of a
//! slot in InFlight and Orphaned only. A slot is vacant again in one place: [`Table::remove`].

use std::collections::VecDeque;
use std::task::Waker;

use super::token::{INDEX_MAX, Token};
use super::{Cqe, Orphan};
use crate::Instant;
use crate::pool::{has_buffer, is_whole};
use crate::scope::ScopeIndex;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Vacant,
    Queued,
    InFlight,
    Orphaned,
    Done,
    /// For a moment in the heap, or for somebody of ours to grant something.
    Waiting,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    OneShot,
    /// Many completions are expected.
    Multishot,
    /// A sleep that is a kernel timeout, or would be one.
    Sleep,
}

/// Places that a full table gets: a quarter more, since most of what doubling gives would be held
/// for nothing by a server with many idle connections.
pub(crate) fn room_to_add(places: usize) -> usize {
    (places / 4).max(64)
}

/// Names a slot for as long as its holder lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key(Token);

impl Key {
    const fn new(index: u32, generation: u32) -> Self {
        Self(Token::operation(index, generation))
    }

    pub(crate) const fn index(self) -> u32 {
        self.0.index()
    }

    pub(crate) const fn generation(self) -> u32 {
        self.0.generation()
    }

    pub(crate) const fn token(self) -> Token {
        self.0
    }

    /// The key in a word of 63 bits, and from one.
    pub(crate) const fn word(self) -> u64 {
        self.0.user_data()
    }

    pub(crate) const fn from_word(word: u64) -> Self {
        Self(Token::from_user_data(word))
    }
}

/// The end of a list of slots.
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// Whether the success of a silent operation is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Success {
    /// At once: somebody waits.
    Told,
    /// When the loop is awake again. It may sleep in the enter that starts the operation.
    ToldLater,
    /// Not at all; the loop may sleep as well.
    Untold,
}

pub(crate) struct Slot {
    pub(crate) generation: u32,
    pub(crate) state: State,
    pub(crate) kind: Kind,
    /// A linked timeout with a scope's deadline is behind it; `word` and `res` say which scope's.
    pub(crate) carrier: bool,
    pub(crate) cancel: Cancel,
    /// Who is woken if it is silent and succeeds.
    pub(crate) success: Success,
    /// Done: the result. Silent: what it comes to. InFlight and `carrier`: the scope's generation.
    pub(crate) res: i32,
    /// Done: the completion's flags. InFlight and `carrier`: the scope's index. Timer: whether
    /// the heap has an entry for it. InFlight sleeps have their deadline in both.
    pub(crate) word: u32,
    /// The scope it is a leaf of, and its neighbours there.
    pub(crate) scope: ScopeIndex,
    pub(crate) previous: u32,
    pub(crate) next: u32,
    /// The latest cancel request that hit it; 0 is none.
    pub(crate) cause: u64,
    pub(crate) waker: Option<Waker>,
    pub(crate) cold: Option<Box<Cold>>,
}

// One cache line: many slots are touched for each message that a server handles.
const _: () = assert!(size_of::<Slot>() == 64);

/// How far a request to cancel has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cancel {
    /// Nobody asked.
    No,
    /// Asked the kernel so many times.
    Asked(u8),
    /// A linked timeout ended it whose scope is not above it (any more): nobody asked, so the
    /// operation is to be started again.
    Stray,
    /// A zero-copy send: the result is here, the buffer is not back yet. `Stray` as above.
    AwaitsNotif { stray: bool },
}

/// What few slots have.
#[derive(Default)]
pub(crate) struct Cold {
    /// Completions of a multishot that nobody has fetched.
    pub(crate) shots: VecDeque<Shot>,
    /// What they weigh, and past which weight the multishot is paused; 0: never.
    held: u64,
    pub(crate) held_max: u64,
    /// The payload of an operation whose future is gone.
    pub(crate) orphan: Option<Box<dyn Orphan>>,
}

impl Cold {
    pub(crate) fn push(&mut self, shot: Shot) {
        self.shots.push_back(shot);
        self.held += shot.weight();
    }

    pub(crate) fn pop(&mut self) -> Option<Shot> {
        let shot = self.shots.pop_front()?;
        self.held -= shot.weight();
        Some(shot)
    }

    pub(crate) const fn holds_too_much(&self) -> bool {
        self.held > self.held_max && self.held_max != 0
    }
}

/// One completion of a multishot.
#[derive(Clone, Copy)]
pub(crate) struct Shot {
    pub(crate) res: i32,
    pub(crate) flags: u32,
    /// Where in a provided buffer its bytes begin.
    pub(crate) place: u32,
}

impl Shot {
    /// A completion without a buffer.
    pub(crate) const fn new(res: i32, flags: u32) -> Self {
        Self {
            res,
            flags,
            place: 0,
        }
    }

    pub(crate) const fn cqe(self) -> Cqe {
        let cqe = Cqe::new(self.res, self.flags);
        if has_buffer(self.flags) {
            cqe.with_place(self.place)
        } else {
            cqe
        }
    }

    /// A byte that holds a part of a provided buffer weighs one, and so does whatever else there may be.
    pub(crate) const fn weight(self) -> u64 {
        if has_buffer(self.flags) && !is_whole(self.flags) && self.res > 0 {
            self.res as u64
        } else {
            1
        }
    }
}

/// The slots, in one block that grows. A vacant one remembers its generation, and `next` leads to
/// the next vacant one.
pub(crate) struct Table {
    slots: Vec<Slot>,
    vacant: u32,
    used: usize,
    /// Slots the kernel knows of.
    pub(crate) in_flight: usize,
}

impl Table {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            vacant: NO_SLOT,
            used: 0,
            in_flight: 0,
        }
    }

    /// The slot that the next [`insert`](Self::insert) takes.
    ///
    /// # Panics
    /// If there are 2^28.
    pub(crate) fn next(&mut self) -> Key {
        if self.vacant == NO_SLOT {
            self.grow();
        }
        self.key_of(self.vacant)
    }

    pub(crate) fn insert(&mut self, state: State, kind: Kind) -> Key {
        let key = self.next();
        let slot = &mut self.slots[key.index() as usize];
        self.vacant = slot.next;
        self.used += 1;
        // What is not written here was left so when the slot became vacant.
        slot.state = state;
        slot.kind = kind;
        slot.carrier = false;
        slot.cancel = Cancel::No;
        slot.success = Success::Told;
        slot.cause = 0;
        key
    }

    #[cold]
    fn grow(&mut self) {
        let index = self.slots.len();
        assert!(
            index <= INDEX_MAX as usize,
            "more than 2^28 operations in flight"
        );
        if index == self.slots.capacity() {
            self.slots.reserve_exact(room_to_add(index));
        }
        self.slots.push(Slot {
            generation: 0,
            state: State::Vacant,
            kind: Kind::OneShot,
            carrier: false,
            cancel: Cancel::No,
            success: Success::Told,
            res: 0,
            word: 0,
            scope: ScopeIndex::NONE,
            previous: NO_SLOT,
            next: NO_SLOT,
            cause: 0,
            waker: None,
            cold: None,
        });
        self.vacant = index as u32;
    }

    /// The slot of a holder, who keeps it from becoming vacant.
    pub(crate) fn slot(&mut self, key: Key) -> &mut Slot {
        let slot = &mut self.slots[key.index() as usize];
        assert_eq!(
            slot.generation,
            key.generation(),
            "R4: a holder's slot was given away"
        );
        slot
    }

    /// The slot of a completion, if that generation is still there (R4).
    pub(crate) fn of_token(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.index() as usize)?;
        (slot.generation == token.generation()).then_some(slot)
    }

    pub(crate) fn of_token_ref(&self, token: Token) -> Option<&Slot> {
        let slot = self.slots.get(token.index() as usize)?;
        (slot.generation == token.generation()).then_some(slot)
    }

    /// A slot that a list names.
    pub(crate) fn at(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    pub(crate) fn key_of(&self, index: u32) -> Key {
        Key::new(index, self.slots[index as usize].generation)
    }

    /// Makes the slot vacant. It is not the kernel's any more; its waker and what it kept have
    /// been taken. Gives where it was a leaf: it is to be taken out of that list.
    pub(crate) fn remove(&mut self, index: u32) -> Links {
        let vacant = self.vacant;
        let slot = self.at(index);
        debug_assert!(
            slot.waker.is_none() && slot.cold.is_none(),
            "a vacant slot keeps something"
        );
        let links = slot.unlink();
        slot.state = State::Vacant;
        slot.generation = slot.generation.wrapping_add(1);
        slot.next = vacant;
        self.vacant = index;
        self.used -= 1;
        links
    }

    pub(crate) const fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        let slots = self.slots.iter().enumerate();
        let used = slots.filter(|(_, slot)| slot.state != State::Vacant);
        used.map(|(index, slot)| Key::new(index as u32, slot.generation))
            .collect()
    }
}

/// Where a slot is, or was, a leaf.
#[derive(Clone, Copy)]
pub(crate) struct Links {
    pub(crate) scope: ScopeIndex,
    pub(crate) previous: u32,
    pub(crate) next: u32,
}

impl Slot {
    /// Is a leaf of no scope from here on. Its neighbours do not know yet.
    pub(crate) const fn unlink(&mut self) -> Links {
        Links {
            scope: std::mem::replace(&mut self.scope, ScopeIndex::NONE),
            previous: self.previous,
            next: self.next,
        }
    }

    pub(crate) fn cold(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    /// When a sleep in flight is due.
    pub(crate) const fn deadline(&self) -> Instant {
        Instant::from_nanos((self.word as u64) << 32 | self.res as u32 as u64)
    }

    pub(crate) const fn set_deadline(&mut self, deadline: Instant) {
        let nanos = deadline.as_nanos();
        (self.word, self.res) = ((nanos >> 32) as u32, nanos as i32);
    }

    /// Whether the kernel has it.
    pub(crate) const fn is_in_flight(&self) -> bool {
        matches!(self.state, State::InFlight | State::Orphaned)
    }
}

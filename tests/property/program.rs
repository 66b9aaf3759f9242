//! Random programs: trees of futures, and what happens to them from outside.

use std::fmt;
use std::rc::Rc;

use fastrand::Rng;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    // Leaves.
    Sleep,
    Read,
    Await,
    Yield,
    Fail,
    // One future, and something around it.
    Hold,
    Swallow,
    Drop,
    WaitFor,
    Timeout,
    Shielded,
    ShieldedFor,
    Task,
    // One after the other; the second if the first has failed.
    Seq,
    Clean,
    // At once.
    Gather,
    GatherAll,
    Settle,
    Race,
    Join,
    Group,
}

use Kind::*;

#[derive(Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// In ticks.
    pub(super) span: u32,
    /// Which pipe, event, lock or switch.
    pub(super) which: usize,
    pub(super) inner: Vec<Rc<Self>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Cancel(usize),
    /// Without a reason.
    CancelBare(usize),
    Uncancel(usize),
    Write(usize, u8),
    Set(usize),
    Clear(usize),
    Hold(usize),
    Release(usize),
    DropBranch(usize),
    /// The loop is late.
    Advance(u32),
    Turn,
    Sleep(u32),
}

#[derive(Clone)]
pub(super) struct Case {
    pub(super) programs: Vec<Rc<Node>>,
    pub(super) script: Vec<Action>,
    pub(super) heap: bool,
    /// Some reads cannot be cancelled.
    pub(super) stubborn: bool,
}

pub(super) const KINDS: usize = 2;
pub(super) const SWITCHES: usize = 4;
/// Bytes are told apart by their values, all below what the simulator scribbles.
pub(super) const BYTES_MAX: u8 = 160;

impl Case {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let programs = (0..rng.usize(1..=2))
            .map(|_| Node::random(&mut rng, 5, &mut 24, false))
            .collect();
        let script = (0..rng.usize(2..24))
            .map(|_| Action::random(&mut rng))
            .collect();
        Self {
            programs,
            script,
            heap: rng.bool(),
            stubborn: rng.u8(0..4) == 0,
        }
    }

    /// Each with something less.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for len in [8, 4, 2, 1] {
            for at in (0..self.script.len()).step_by(len) {
                let mut case = self.clone();
                case.script.drain(at..(at + len).min(self.script.len()));
                all.push(case);
            }
        }
        for at in 0..self.programs.len() {
            if self.programs.len() > 1 {
                let mut case = self.clone();
                case.programs.remove(at);
                all.push(case);
            }
            for node in self.programs[at].smaller() {
                let mut case = self.clone();
                case.programs[at] = node;
                all.push(case);
            }
        }
        if self.stubborn {
            all.push(Self {
                stubborn: false,
                ..self.clone()
            });
        }
        all
    }
}

impl Action {
    fn random(rng: &mut Rng) -> Self {
        let which = rng.usize(0..KINDS);
        match rng.u8(0..32) {
            0..6 => Self::Cancel(rng.usize(0..4)),
            6 => Self::CancelBare(rng.usize(0..4)),
            7 | 8 => Self::Uncancel(rng.usize(0..4)),
            9..12 => Self::Write(which, rng.u8(1..4)),
            12 | 13 => Self::Set(which),
            14 => Self::Clear(which),
            15 => Self::Hold(which),
            16..18 => Self::Release(which),
            18 | 19 => Self::DropBranch(rng.usize(0..SWITCHES)),
            20 | 21 => Self::Advance(rng.u32(1..6)),
            22..27 => Self::Turn,
            _ => Self::Sleep(rng.u32(1..6)),
        }
    }
}

impl Node {
    pub(super) fn new(kind: Kind, span: u32, which: usize, inner: Vec<Rc<Self>>) -> Rc<Self> {
        Rc::new(Self {
            kind,
            span,
            which,
            inner,
        })
    }

    /// `held`: it has a lock, and must not wait for one: shields make that a deadlock.
    fn random(rng: &mut Rng, depth: u32, left: &mut u32, held: bool) -> Rc<Self> {
        *left = left.saturating_sub(1);
        let which = rng.usize(0..KINDS);
        if depth == 0 || *left == 0 || rng.u32(0..6) > depth {
            let long = if rng.u8(0..4) == 0 { 40 } else { 6 };
            let kind = [
                Sleep, Sleep, Sleep, Read, Read, Await, Await, Yield, Yield, Fail,
            ];
            return Self::new(
                rng.choice(kind).expect("some"),
                rng.u32(0..long),
                which,
                Vec::new(),
            );
        }
        let (kind, count) = match rng.u8(0..36) {
            0..3 if !held => (Hold, 1),
            0..6 => (Swallow, 1),
            6 => (Drop, 1),
            7..10 => (WaitFor, 1),
            10 | 11 => (Timeout, 1),
            12 | 13 => (Shielded, 1),
            14 | 15 => (ShieldedFor, 1),
            16..19 => (Task, 1),
            19..23 => (Seq, rng.usize(2..5)),
            23..26 => (Clean, 2),
            26 | 27 => (Gather, rng.usize(2..4)),
            28 => (GatherAll, rng.usize(2..4)),
            29 | 30 => (Settle, rng.usize(2..4)),
            31 | 32 => (Race, rng.usize(2..4)),
            33 | 34 => (Join, rng.usize(2..4)),
            _ => (Group, rng.usize(1..4)),
        };
        let which = if kind == Drop {
            rng.usize(0..SWITCHES)
        } else {
            which
        };
        let span = rng.u32(0..9);
        let inner = (0..count)
            .map(|_| Self::random(rng, depth - 1, left, held || kind == Hold))
            .collect();
        Self::new(kind, span, which, inner)
    }

    pub(super) fn smaller(&self) -> Vec<Rc<Self>> {
        let mut all = self.inner.clone();
        if !self.inner.is_empty() {
            all.push(Self::new(Yield, 0, 0, Vec::new()));
        }
        for at in 0..self.inner.len() {
            if self.inner.len() > 1 && self.kind != Clean {
                let mut node = self.clone();
                node.inner.remove(at);
                all.push(Rc::new(node));
            }
            for inner in self.inner[at].smaller() {
                let mut node = self.clone();
                node.inner[at] = inner;
                all.push(Rc::new(node));
            }
        }
        if self.span > 1 {
            let mut node = self.clone();
            node.span /= 2;
            all.push(Rc::new(node));
        }
        all
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        match self.kind {
            Sleep | WaitFor | Timeout | ShieldedFor => write!(f, "({})", self.span)?,
            Read | Await | Hold | Drop | Join => write!(f, "#{}", self.which)?,
            _ => {}
        }
        if self.inner.is_empty() {
            return Ok(());
        }
        f.debug_list().entries(&self.inner).finish()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for program in &self.programs {
            writeln!(f, "  program: {program:?}")?;
        }
        writeln!(f, "  script: {:?}", self.script)?;
        write!(f, "  heap: {}, stubborn: {}", self.heap, self.stubborn)
    }
}

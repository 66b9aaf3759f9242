//! When a scope's time is up.

use std::time::Duration;

use super::{Border, Scope, ScopeIndex, Scopes};
use crate::Instant;

/// When a scope's time is up, in one word: a moment, or with the top bit a span that is not yet
/// counted from, since nobody has had to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub(crate) const NEVER: Self = Self(u64::MAX);
    /// 292 years.
    const SPAN: u64 = 1 << 63;

    pub(crate) const fn after(span: Duration) -> Self {
        let nanos = span.as_nanos();
        if nanos < Self::SPAN as u128 {
            Self(Self::SPAN | nanos as u64)
        } else {
            Self::NEVER
        }
    }

    pub(crate) const fn at(moment: Instant) -> Self {
        if moment.as_nanos() < Self::SPAN {
            Self(moment.as_nanos())
        } else {
            Self::NEVER
        }
    }

    /// Whether it need not be looked at before somebody has to wait.
    pub(crate) const fn can_wait(self) -> bool {
        self.0 > Self::SPAN
    }

    /// A span of zero: it has passed at once.
    pub(crate) const fn is_zero(self) -> bool {
        self.0 == Self::SPAN
    }

    pub(crate) const fn moment(self) -> Option<Instant> {
        if self.0 < Self::SPAN {
            Some(Instant::from_nanos(self.0))
        } else {
            None
        }
    }

    /// The moment; a span counts from `now` on.
    pub(crate) fn count(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        if self.0 >= Self::SPAN && *self != Self::NEVER {
            *self = Self::at(now() + Duration::from_nanos(self.0 & !Self::SPAN));
        }
        self.moment()
    }
}

impl Scopes {
    /// The nearest deadline that has not fired, from `index` outwards, and whose it is. Spans
    /// begin to count with the first look: `now` is asked for once if there is one.
    pub(crate) fn deadline(
        &mut self,
        index: ScopeIndex,
        mut now: impl FnMut() -> Instant,
    ) -> Option<(Instant, ScopeIndex)> {
        let mut nearest: Option<(Instant, ScopeIndex)> = None;
        let (mut at, mut read) = (index, None);
        while at != ScopeIndex::NONE {
            let Scope { cold, parent, .. } = *self.at(at);
            let mut outer = parent;
            if let Some(cold) = self.cold.get_mut(cold as usize) {
                let counted = cold.deadline.count(|| *read.get_or_insert_with(&mut now));
                if let Some(deadline) = counted
                    && !cold.fired
                    && nearest.is_none_or(|(nearest, _)| deadline <= nearest)
                {
                    nearest = Some((deadline, at));
                }
                if cold.border == Border::Shield {
                    outer = ScopeIndex::NONE;
                }
            }
            at = outer;
        }
        nearest
    }

    /// The earliest deadline from `index` outwards, also one that has passed.
    pub(crate) fn effective_deadline(
        &mut self,
        index: ScopeIndex,
        now: Instant,
    ) -> Option<Instant> {
        let (mut at, mut earliest) = (index, None);
        while at.is_made() {
            let outer = self.outer(at);
            let cold = self.at(at).cold as usize;
            let cold = self.cold.get_mut(cold);
            if let Some(deadline) = cold.and_then(|cold| cold.deadline.count(|| now)) {
                earliest = Some(earliest.map_or(deadline, |other| deadline.min(other)));
            }
            at = outer;
        }
        earliest
    }

    /// Moves the deadline of a scope.
    pub(crate) fn set_deadline(&mut self, index: ScopeIndex, deadline: Deadline) {
        let old = std::mem::replace(&mut self.cold(index).deadline, deadline);
        self.timed += usize::from(deadline != Deadline::NEVER);
        self.timed -= usize::from(old != Deadline::NEVER);
    }
}

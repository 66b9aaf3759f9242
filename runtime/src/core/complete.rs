//! Upwards: what the driver brings, from an enter to the tasks that it wakes.

use std::io;
use std::task::Waker;

use super::{Core, EXPIRIES_MAX, PUT_OFF_MAX, waits};
use crate::Instant;
use crate::debris::{Item, Remains};
use crate::driver::{Completion, Wait};
use crate::inbox::Inbox;
use crate::op::table::{Cancel, Key, Kind, Shot, State, Success};
use crate::op::{Control, NOTIF_COPIED, Tag};
use crate::pool::has_buffer;
use crate::task::{TaskNumber, Tasks};
use crate::timers::Waiter;

impl Core {
    /// One enter and what it brings. Sleeps only if `wait` says so.
    pub(crate) fn pump(&mut self, wait: Wait, tasks: &mut Tasks) -> io::Result<()> {
        if self.has_waiting() {
            self.flush();
        }
        // Nobody else would say that they are done.
        let wait = if self.silent.is_empty() || self.all_quiet() {
            wait
        } else {
            Wait::No
        };
        if wait != Wait::No || self.driver.wants_enter() {
            self.enter(wait)?;
        }
        // What one enter brings, about 20 deferred completions, and no more: who they are for runs while
        // what they brought is in the cache, and others are not kept waiting (a server of 1,000
        // connections with 16 KiB each needed a quarter more CPU time for 320 at once).
        let mut batch = std::mem::take(&mut self.batch);
        self.driver.reap(&mut batch);
        let has_more = self.driver.has_more();
        // TASKRUN may be up with nothing behind it, for as long as nothing else comes (M).
        let fruitless = batch.is_empty() && has_more;
        self.fruitless = if fruitless { self.fruitless + 1 } else { 0 };
        // What has completed comes before the limits around it (C1), also what is still held back.
        let puts_off = has_more && !fruitless && self.put_off < PUT_OFF_MAX;
        self.put_off = if puts_off { self.put_off + 1 } else { 0 };
        for completion in batch.drain(..) {
            self.complete(completion, tasks);
        }
        self.batch = batch;
        if !self.silent.is_empty() {
            self.settle_silent(tasks);
        }
        // Read again by the first await of the next turn that has a deadline.
        self.clock = None;
        if !puts_off && !self.heap.is_empty() {
            self.expire(tasks);
        }
        Ok(())
    }

    /// Whether nobody waits for the silent operations that are queued.
    fn all_quiet(&self) -> bool {
        let of = |key: &Key| self.table.of_token_ref(key.token());
        let mut slots = self.silent.iter().filter_map(of);
        slots.all(|slot| slot.success != Success::Told && slot.state == State::InFlight)
    }

    /// What the kernel has taken and said nothing about has succeeded, once all that it has said was
    /// heard.
    fn settle_silent(&mut self, tasks: &mut Tasks) {
        // Not TASKRUN: what is done within an enter is no deferred work.
        if self.driver.has_queued() || self.driver.has_overflowed() {
            return;
        }
        let lost = self.driver.take_lost();
        let mut silent = std::mem::take(&mut self.silent);
        for key in silent.drain(..) {
            let Some(slot) = self.table.of_token(key.token()) else {
                continue;
            };
            if !slot.is_in_flight() {
                continue;
            }
            slot.word = 0;
            if lost {
                slot.res = -libc::EIO; // It may have been said, with no memory to keep it.
            } else if slot.success == Success::Untold && slot.state == State::InFlight {
                slot.state = State::Done;
                self.table.in_flight -= 1;
                continue;
            }
            self.finish(key.index(), tasks);
        }
        self.silent = silent;
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.driver.enter(wait)?;
        if !self.lent.is_empty() && !self.driver.has_queued() {
            self.lent.clear();
        }
        Ok(())
    }

    fn complete(&mut self, completion: Completion, tasks: &mut Tasks) {
        self.counts.completions += 1;
        match completion.token.tag() {
            Some(Tag::Operation) => self.complete_operation(completion, tasks),
            Some(Tag::Cancel) => self.cancel_answered(completion.token),
            Some(Tag::Timeout) => self.timeout_answered(completion),
            Some(Tag::Control) => self.complete_control(completion),
            None => self.counts.stale += 1,
        }
    }

    fn complete_operation(&mut self, completion: Completion, tasks: &mut Tasks) {
        let Completion { token, res, flags } = completion;
        let Some(slot) = self
            .table
            .of_token(token)
            .filter(|slot| slot.is_in_flight())
        else {
            self.counts.stale += 1; // R4: another generation, or a second end of this one.
            self.discard(res, flags);
            return;
        };
        if slot.kind == Kind::Multishot {
            return self.complete_shot(completion, tasks);
        }
        let slot = if slot.carrier {
            self.carried(token.index(), res);
            self.table.at(token.index())
        } else {
            slot
        };
        if let Cancel::AwaitsNotif { stray } = slot.cancel {
            // The result came before; this gives the buffer back (R5).
            slot.cancel = if stray { Cancel::Stray } else { Cancel::No };
            slot.word |= res as u32 & NOTIF_COPIED;
        } else {
            (slot.res, slot.word) = (res, flags);
        }
        if has_buffer(flags) {
            // It has no place to say where in the buffer.
            self.table.at(token.index()).word = 0;
            self.discard(res, flags);
        }
        let slot = self.table.at(token.index());
        if !completion.is_final() {
            let stray = slot.cancel == Cancel::Stray;
            slot.cancel = Cancel::AwaitsNotif { stray };
            return;
        }
        self.finish(token.index(), tasks);
    }

    /// The operation's own completion says what happened. But a timeout that the kernel took
    /// in another enter than its operation is behind nothing, and fails (M).
    fn timeout_answered(&mut self, completion: Completion) {
        let token = completion.token;
        if completion.res == -libc::EINVAL
            && let Some(slot) = self.table.of_token(token)
            && slot.is_in_flight()
        {
            let key = self.table.key_of(token.index());
            self.let_go_of_carrier(key);
        }
    }

    fn complete_shot(&mut self, completion: Completion, tasks: &mut Tasks) {
        let Completion { token, res, flags } = completion;
        let mut shot = Shot::new(res, flags);
        // Here and not when it is fetched: places follow from the order of completions.
        if has_buffer(flags) {
            shot.place = self.pools.consume(res, flags);
        }
        let slot = self.table.at(token.index());
        let cold = slot.cold();
        cold.push(shot);
        let holds_too_much = cold.holds_too_much();
        if holds_too_much && slot.state == State::InFlight && !completion.is_final() {
            self.ask_cancel(self.table.key_of(token.index()));
        }
        if completion.is_final() {
            self.finish(token.index(), tasks);
        } else {
            let waker = self.table.at(token.index()).waker.take();
            self.wake(waker, tasks);
        }
    }

    /// Gives a buffer back that came to nobody.
    #[cold]
    fn discard(&self, res: i32, flags: u32) {
        if has_buffer(flags) {
            self.pools.discard(res, flags);
        }
    }

    /// The kernel is done with a slot: its future is woken, or its orphan seen to.
    fn finish(&mut self, index: u32, tasks: &mut Tasks) {
        self.table.in_flight -= 1;
        let slot = self.table.at(index);
        self.kernel_sleeps -= u32::from(slot.kind == Kind::Sleep);
        if slot.state == State::Orphaned {
            let remains = Remains::of(slot);
            let links = self.table.remove(index);
            self.close_gap(links);
            self.counts.orphans += 1;
            self.leave_remains(remains);
        } else {
            slot.state = State::Done;
            let waker = slot.waker.take();
            self.wake(waker, tasks);
        }
    }

    pub(super) fn leave_remains(&mut self, remains: Option<Remains>) {
        if let Some(remains) = remains {
            self.debris.push(Item::Remains(remains));
        }
    }

    fn complete_control(&mut self, completion: Completion) {
        let detail = completion.token.generation();
        match Control::of(completion.token) {
            Some(Control::Unparker) if completion.is_final() => {
                self.deaf = !self.driver.arm_unparker(self.inbox); // R11
            }
            Some(Control::Timer) => self.alarm = None,
            Some(Control::MessageFailed) => {
                if let Some(inbox) = Inbox::by_number(detail) {
                    inbox.signal();
                }
            }
            Some(Control::Unparker | Control::Message | Control::Ignored) => {}
            None => self.counts.stale += 1,
        }
    }

    /// Takes the waiters out of the heap whose time has come.
    pub(super) fn expire(&mut self, tasks: &mut Tasks) {
        let now = self.driver.now();
        self.clock = Some(now);
        let mut due = std::mem::take(&mut self.due);
        let mut taken = 0;
        let mut last = Instant::ZERO;
        while let Some((deadline, waiter)) = self.heap.first()
            && deadline <= now
            && (taken < EXPIRIES_MAX || deadline == last)
        {
            (taken, last) = (taken + 1, deadline);
            let waits = waits(&mut self.table, &mut self.scopes, deadline, waiter);
            self.heap.pop(!waits);
            match waiter {
                Waiter::Slot(key) if waits => {
                    let slot = self.table.slot(key);
                    slot.state = State::Done;
                    (slot.res, slot.word) = (-libc::ETIME, 0);
                    let waker = slot.waker.take();
                    self.wake(waker, tasks);
                }
                Waiter::Scope(key) if waits => {
                    self.scopes.cold(key.index).armed = false;
                    due.push(key.index);
                }
                Waiter::Slot(_) | Waiter::Scope(_) => {}
            }
        }
        // What is due in the same look is done, and stays done (C1).
        for scope in due.drain(..) {
            self.fire(scope);
        }
        self.due = due;
    }

    /// Wakes whoever waits: a task of ours directly, anybody else after the batch.
    pub(super) fn wake(&mut self, waker: Option<Waker>, tasks: &mut Tasks) {
        let Some(waker) = waker else { return };
        match TaskNumber::of(&waker) {
            // Dropping a waker of ours does nothing.
            Some(number) if number.inbox() == self.inbox.number() => tasks.wake(number),
            _ => self.debris.push(Item::Wake(waker)),
        }
    }
}

//! Requests on their way to the kernel.

use super::{Request, Scratch};

/// What has been submitted and not taken, with the scratch of each request.
///
/// A request is built in its place here, and the driver takes them all in the enter: copied right
/// after it was built, field by field, it would cost 5 ns of waiting for the stores.
pub(crate) struct Queue {
    requests: Box<[Request]>,
    len: usize,
    /// A place for each entry of the kernel's queue, used in turn.
    scratch: Box<[Scratch]>,
    /// Requests that were ever queued: the next one's place in `scratch`.
    placed: usize,
    /// Requests that the driver was given and its kernel has not taken: their scratch is in use.
    lent: usize,
}

impl Queue {
    /// A queue of `entries` places, a power of two.
    pub(super) fn new(entries: usize) -> Self {
        assert!(entries.is_power_of_two());
        Self {
            requests: vec![Request::new(0, -1); entries].into(),
            len: 0,
            scratch: (0..entries).map(|_| Scratch::new()).collect(),
            placed: 0,
            lent: 0,
        }
    }

    /// A queue of nothing, for a driver that takes nothing.
    pub(super) fn closed() -> Self {
        Self {
            requests: Box::default(),
            len: 0,
            scratch: Box::default(),
            placed: 0,
            lent: 0,
        }
    }

    pub(super) const fn has_room(&self, n: usize) -> bool {
        self.requests.len() - self.len - self.lent >= n
    }

    /// Has a request described in the next place. It stays out of the queue if that panics.
    pub(super) fn place(
        &mut self,
        describe: &mut dyn FnMut(&mut Scratch, &mut Request),
    ) -> &mut Request {
        assert!(
            self.has_room(1),
            "R3: a request was submitted for which no room was reserved"
        );
        let scratch = &mut self.scratch[self.placed & (self.requests.len() - 1)];
        scratch.clear();
        let request = &mut self.requests[self.len];
        describe(scratch, request);
        self.placed += 1;
        self.len += 1;
        request
    }

    pub(super) fn requests(&self) -> &[Request] {
        &self.requests[..self.len]
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0 && self.lent == 0
    }

    pub(super) const fn lent(&self) -> usize {
        self.lent
    }

    /// The driver has them all, its kernel none yet.
    pub(super) const fn lend_all(&mut self) {
        self.lent += self.len;
        self.len = 0;
    }

    /// Of what the driver has, its kernel has yet to take `lent`.
    pub(super) const fn set_lent(&mut self, lent: usize) {
        self.lent = lent;
    }

    /// The kernel has taken the first `n`.
    pub(super) fn take(&mut self, n: usize) {
        self.requests.copy_within(n..self.len, 0);
        self.len -= n;
    }
}

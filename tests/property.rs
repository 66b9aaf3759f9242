//! What the contract says of cancellation, over random programs: trees of futures, and a script of
//! what happens to them from outside (C1, C2, C4, C5, C7, C8, C9).
//!
//! A model follows the scopes by what the program itself can see: where scopes open and end, what
//! was asked, and what each await returned. It predicts no outcome. It says which ones are faults:
//! a request that nobody made or that was returned before, one that an await should have returned
//! and did not, a time-out of nobody's limit, a wait that does not end.
//!
//! `CORING_PROPERTY_SEED` runs one case, `CORING_PROPERTY_CASES` so many. A failure is shrunk, and
//! printed with its seed and with what happened.

mod common;
#[path = "property/model.rs"]
mod model;
#[path = "property/program.rs"]
mod program;

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use common::{MS, READ, Write, finish, poll_once};
use coring::sim::{Kernel, Script};
use coring::sync::{Event, Lock};
use coring::winner::Of2;
use coring::{
    BufResult, Cqe, Operation, Request, Runner, Scratch, Stats, TaskGroup, TaskRef, TimedOut,
    Timers, create_task, gather, gather_all, is_cancelled, now, race, race_all, shielded,
    shielded_for, sleep, submit, task_group, timeout, wait_for, yield_now,
};
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};

use model::{Border, Leaf, Model, Outcome, Wait, outcome};
use program::Kind::*;
use program::{Action, BYTES_MAX, Case, KINDS, Node, SWITCHES};

// ---- running a program ----

/// What the futures of a case share.
struct World {
    model: RefCell<Model>,
    tick: Duration,
    kernel: Option<Kernel>,
    stubborn: bool,
    locks: [Lock; KINDS],
    events: [Event; KINDS],
    /// Where to read and to write.
    pipes: [(RawFd, RawFd); KINDS],
    /// What has come out of each, by whatever way.
    bytes: RefCell<[Vec<u8>; KINDS]>,
    /// Buffers that came back: the kernel does not write to them any more (C4).
    returned: RefCell<Vec<Vec<u8>>>,
    tasks: RefCell<Vec<(usize, TaskRef)>>,
    switches: [Switch; SWITCHES],
}

#[derive(Default)]
struct Switch {
    off: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

type Shared = Rc<World>;
type Running = Pin<Box<dyn Future<Output = io::Result<()>>>>;

const CAPACITY: usize = 4;
const UNTOUCHED: u8 = 0x11;

/// A read whose bytes are counted also when its future is gone.
struct Take {
    world: Shared,
    pipe: usize,
    buf: Vec<u8>,
}

impl Take {
    fn count(&self, n: usize) {
        let bytes = self.buf[..n].iter().filter(|&&byte| byte <= BYTES_MAX);
        let mut all = self.world.bytes.borrow_mut();
        all[self.pipe].extend(bytes);
        self.world.model().taken[self.pipe] = all[self.pipe].len();
    }
}

// SAFETY: the buffer is heap memory that the operation owns and that never grows.
unsafe impl Operation for Take {
    type Output = BufResult<usize, Vec<u8>>;

    fn request(&mut self, _: &mut Scratch) -> Request {
        Request::new(READ, self.world.pipes[self.pipe].0)
            .addr(self.buf.as_mut_ptr())
            .len(CAPACITY as u32)
            .off(u64::MAX)
    }

    fn complete(self, cqe: Cqe) -> Self::Output {
        let result = cqe.result().map(|n| n as usize);
        if let Ok(n) = result {
            self.count(n);
        }
        BufResult(result, self.buf)
    }

    fn orphaned(self, cqe: Cqe) {
        if let Ok(n) = cqe.result() {
            self.count(n as usize);
        }
    }
}

/// A scope is open as long as this is.
struct Opened(Shared, usize);

impl std::ops::Drop for Opened {
    fn drop(&mut self) {
        self.0.model().close(self.1);
    }
}

/// An await that has begun.
struct Waiting<'a>(&'a World, Option<usize>);

impl std::ops::Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(leaf) = self.1 {
            self.0.model().dropped(leaf);
        }
    }
}

/// Who has a lock.
struct Held<'a>(&'a World, usize);

impl<'a> Held<'a> {
    fn new(world: &'a World, lock: usize) -> Self {
        let before = std::mem::replace(&mut world.model().held[lock], true);
        if before {
            world
                .model()
                .fault(format_args!("C1: lock {lock} is held twice"));
        }
        Self(world, lock)
    }
}

impl std::ops::Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.model().held[self.1] = false;
    }
}

impl World {
    fn model(&self) -> RefMut<'_, Model> {
        self.model.borrow_mut()
    }

    fn open(self: &Rc<Self>, parent: usize, border: Border, limit: Option<Duration>) -> Opened {
        let scope = self.model().open(Some(parent), border, limit, now());
        Opened(self.clone(), scope)
    }

    fn root(self: &Rc<Self>) -> Opened {
        let scope = self.model().open(None, Border::Root, None, now());
        Opened(self.clone(), scope)
    }

    /// An await that the model knows of.
    async fn leaf<T>(
        &self,
        scope: usize,
        wait: Wait,
        future: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let mut future = pin!(future);
        let mut waiting = Waiting(self, None);
        poll_fn(|cx| {
            let first = waiting.1.is_none();
            let leaf = match waiting.1 {
                Some(leaf) => leaf,
                None => self.model().start(scope, wait, now()),
            };
            waiting.1 = Some(leaf);
            let polled = future.as_mut().poll(cx);
            match &polled {
                Poll::Ready(result) => {
                    waiting.1 = None;
                    self.model().end(leaf, first, outcome(result), now());
                }
                Poll::Pending if first => self.model().waits(leaf),
                Poll::Pending => {}
            }
            polled
        })
        .await
    }

    async fn read(self: &Rc<Self>, scope: usize, pipe: usize, span: u32) -> io::Result<()> {
        let mut buf = vec![UNTOUCHED; CAPACITY];
        let (at, capacity) = (buf.as_mut_ptr(), buf.capacity());
        if let Some(kernel) = self
            .kernel
            .as_ref()
            .filter(|_| self.stubborn && span.is_multiple_of(2))
        {
            let late = self.tick * (span + 1);
            kernel.script(READ, Script::Uncancellable(late, 1));
        }
        let take = Take {
            world: self.clone(),
            pipe,
            buf,
        };
        let back = Cell::new(Vec::new());
        let read = async {
            let BufResult(result, buf) = submit(take).await;
            back.set(buf);
            result
        };
        let result = self.leaf(scope, Wait::Read(pipe), read).await;
        let mut buf = back.take();
        if buf.as_ptr() != at || buf.capacity() != capacity {
            self.model()
                .fault(format_args!("C4: the buffer of a read is not back"));
        }
        buf.fill(UNTOUCHED);
        self.returned.borrow_mut().push(buf);
        result.map(drop)
    }

    async fn limited(self: &Rc<Self>, node: &Node, scope: usize) -> io::Result<()> {
        let limit = self.tick * node.span;
        let border = if node.kind == ShieldedFor {
            Border::Shield
        } else {
            Border::Open
        };
        let opened = self.open(scope, border, Some(limit));
        let scope = opened.1;
        let body = Cell::new(None);
        let running = async {
            let result = run(&node.inner[0], self, scope).await;
            body.set(Some(outcome(&result)));
            result
        };
        let mut late = false;
        let result = match node.kind {
            WaitFor => wait_for(running, limit).await,
            ShieldedFor => shielded_for(limit, running).await,
            _ => timeout(limit, running).await.unwrap_or_else(|expired| {
                late = true;
                let in_spite = expired.late.and_then(Result::ok);
                in_spite.ok_or_else(|| TimedOut::default().into())
            }),
        };
        self.model()
            .end_of_limit(scope, body.get(), outcome(&result), late);
        result
    }

    /// Branches with scopes of their own. `stops`: what has the others stop.
    fn branches(
        self: &Rc<Self>,
        node: &Node,
        scope: usize,
        stops: fn(&io::Result<()>) -> bool,
    ) -> Vec<Running> {
        let stopping: Rc<Cell<bool>> = Rc::default();
        let mut all: Vec<Running> = Vec::new();
        for inner in &node.inner {
            let opened = self.open(scope, Border::Account, None);
            self.model().scopes[opened.1].stops = stopping.clone();
            let (world, inner, stopping) = (self.clone(), inner.clone(), stopping.clone());
            all.push(Box::pin(async move {
                let opened = opened;
                let result = run(&inner, &world, opened.1).await;
                // What one that was stopped comes to is not what counts.
                if !stopping.get() {
                    world.model().settle(opened.1);
                }
                if stops(&result) {
                    stopping.set(true);
                }
                result
            }));
        }
        all
    }

    async fn task(self: &Rc<Self>, node: &Node, scope: usize) -> io::Result<()> {
        let (task, opened) = (self.clone(), self.root());
        let (inner, root) = (node.inner[0].clone(), opened.1);
        let task = create_task(async move {
            let opened = opened;
            run(&inner, &task, opened.1).await
        });
        self.tasks.borrow_mut().push((root, task.as_ref()));
        self.leaf(scope, Wait::Task(root), task).await
    }

    async fn group(self: &Rc<Self>, node: &Node, scope: usize) -> io::Result<()> {
        let opened = self.open(scope, Border::Account, None);
        let scope = opened.1;
        let stops = self.model().scopes[scope].stops.clone();
        let result = task_group(async |group: TaskGroup<io::Error>| {
            for inner in &node.inner[1..] {
                let (world, opened, inner) = (self.clone(), self.root(), inner.clone());
                let (root, stops) = (opened.1, stops.clone());
                self.model().scopes[root].group = Some(scope);
                let task = group.create_task(async move {
                    let opened = opened;
                    let result = run(&inner, &world, opened.1).await;
                    if matches!(outcome(&result), Outcome::TimedOut | Outcome::Failed) {
                        stops.set(true);
                    }
                    result
                });
                self.tasks.borrow_mut().push((root, task.as_ref()));
            }
            let result = run(&node.inner[0], self, scope).await;
            if result.is_err() {
                stops.set(true);
            }
            self.model().group_waits(scope);
            result
        })
        .await;
        let failed = result
            .as_ref()
            .is_err_and(|group| group.errors.iter().any(|error| !is_cancelled(error)));
        let result = result.map_err(io::Error::from);
        self.model().end_of_group(scope, failed, outcome(&result));
        result
    }

    async fn until_switched_off(&self, node: &Node, running: Running) -> io::Result<()> {
        let switch = &self.switches[node.which];
        let mut running = Some(running);
        poll_fn(|cx| {
            if switch.off.get() {
                running = None;
                return Poll::Ready(Ok(()));
            }
            switch.wakers.borrow_mut().push(cx.waker().clone());
            let running = running.as_mut().expect("it is not over");
            running.as_mut().poll(cx)
        })
        .await
    }
}

fn run(node: &Rc<Node>, world: &Shared, scope: usize) -> Running {
    let (node, world) = (node.clone(), world.clone());
    Box::pin(async move {
        let inner = |at: usize| run(&node.inner[at], &world, scope);
        match node.kind {
            Sleep => {
                let span = world.tick * node.span;
                let wait = if node.span == 0 {
                    Wait::Yield
                } else {
                    Wait::Sleep(now() + span)
                };
                world.leaf(scope, wait, sleep(span)).await
            }
            Read => world.read(scope, node.which, node.span).await,
            Await => {
                let wait = world.events[node.which].wait();
                world.leaf(scope, Wait::Event(node.which), wait).await
            }
            Yield => world.leaf(scope, Wait::Yield, yield_now()).await,
            Fail => Err(io::Error::other("it fails")),
            Hold => {
                let acquire = world.locks[node.which].acquire();
                let _guard = world.leaf(scope, Wait::Lock(node.which), acquire).await?;
                let _held = Held::new(&world, node.which);
                inner(0).await
            }
            Swallow => {
                let _ = inner(0).await;
                Ok(())
            }
            Drop => world.until_switched_off(&node, inner(0)).await,
            WaitFor | Timeout | ShieldedFor => world.limited(&node, scope).await,
            Shielded => {
                let opened = world.open(scope, Border::Shield, None);
                shielded(run(&node.inner[0], &world, opened.1)).await
            }
            Task => world.task(&node, scope).await,
            Seq => {
                for at in 0..node.inner.len() {
                    inner(at).await?;
                }
                Ok(())
            }
            Clean => {
                let result = inner(0).await;
                if result.is_err() {
                    inner(1).await?;
                }
                result
            }
            Gather | GatherAll => {
                let mut all = world.branches(&node, scope, |result| result.is_err());
                if node.kind == Gather && all.len() == 2 {
                    let (second, first) = (all.remove(1), all.remove(0));
                    return gather!(first, second).await.map(drop);
                }
                gather_all(all).await.map(drop)
            }
            Settle => {
                let mut all = world.branches(&node, scope, |_| false);
                if all.len() == 2 {
                    let (second, first) = (all.remove(1), all.remove(0));
                    let (first, second) = gather!(first, second).return_exceptions().await;
                    return first.and(second);
                }
                gather_all(all)
                    .return_exceptions()
                    .await
                    .into_iter()
                    .collect()
            }
            Race => {
                let mut all = world.branches(&node, scope, |_| true);
                if all.len() == 2 {
                    let (second, first) = (all.remove(1), all.remove(0));
                    return match race!(first, second).await.winner {
                        Of2::First(result) | Of2::Second(result) => result,
                    };
                }
                race_all(all).await.winner.1
            }
            Join => {
                let all = (0..node.inner.len()).map(inner);
                if node.which == 0 {
                    return join_all(all).await.into_iter().collect();
                }
                let all: FuturesUnordered<_> = all.collect();
                let all: Vec<_> = all.collect().await;
                all.into_iter().collect()
            }
            Group => world.group(&node, scope).await,
        }
    })
}

// ---- what happens from outside ----

async fn drive(case: &Case, world: &Shared) {
    let mut outside = Outside {
        world,
        held: [const { None }; KINDS],
        writes: Vec::new(),
        next_byte: 0,
        next_reason: 0,
    };
    for lock in 0..KINDS {
        outside.act(Action::Hold(lock)).await;
    }
    for program in &case.programs {
        let (program, running, opened) = (program.clone(), world.clone(), world.root());
        let root = opened.1;
        let task = create_task(async move {
            let opened = opened;
            run(&program, &running, opened.1).await
        });
        world.tasks.borrow_mut().push((root, task.as_ref()));
    }
    for &action in &case.script {
        outside.act(action).await;
        if world.model().fault.is_some() {
            return;
        }
    }
    outside.finish().await;
}

struct Outside<'a> {
    world: &'a Shared,
    held: [Option<(Held<'a>, coring::sync::LockGuard<'a, ()>)>; KINDS],
    writes: Vec<coring::Op<Write<Vec<u8>>>>,
    next_byte: u8,
    next_reason: u32,
}

impl Outside<'_> {
    fn live(&self) -> Vec<(usize, TaskRef)> {
        let mut tasks = self.world.tasks.borrow_mut();
        tasks.retain(|(_, task)| !task.done());
        tasks.clone()
    }

    fn choose(&self, which: usize) -> Option<(usize, TaskRef)> {
        let live = self.live();
        let at = which % live.len().max(1);
        live.into_iter().nth(at)
    }

    async fn act(&mut self, action: Action) {
        let world = self.world;
        world
            .model()
            .note(format_args!("--- {action:?} at {:?}", now()));
        match action {
            Action::Cancel(which) => {
                if let Some((root, task)) = self.choose(which) {
                    self.cancel(root, &task);
                }
            }
            Action::CancelBare(which) => {
                if let Some((root, task)) = self.choose(which) {
                    world.model().request(root, None, true, now());
                    task.cancel();
                }
            }
            Action::Uncancel(which) => {
                if let Some((root, task)) = self.choose(which)
                    && task.uncancel() == 0
                {
                    world.model().uncancel(root);
                }
            }
            Action::Write(pipe, count) => self.write(pipe, count).await,
            Action::Set(event) => {
                world.model().set(event);
                world.events[event].set();
            }
            Action::Clear(event) => world.events[event].clear(),
            Action::Hold(lock) => {
                if let Some(guard) = world.locks[lock].try_acquire() {
                    self.held[lock] = Some((Held::new(world, lock), guard));
                }
            }
            Action::Release(lock) => self.held[lock] = None,
            Action::DropBranch(which) => {
                world.switches[which].off.set(true);
                for waker in world.switches[which].wakers.take() {
                    waker.wake();
                }
            }
            Action::Advance(ticks) => {
                if let Some(kernel) = &world.kernel {
                    world.model().advanced(world.tick * ticks);
                    kernel.advance(world.tick * ticks);
                }
            }
            Action::Turn => yield_now().await.expect("nobody cancels"),
            Action::Sleep(ticks) => self.sleep(ticks).await,
        }
    }

    async fn sleep(&self, ticks: u32) {
        let slept = sleep(self.world.tick * ticks).await;
        slept.expect("nobody cancels");
        self.world.model().slept(now());
    }

    fn cancel(&mut self, root: usize, task: &TaskRef) {
        self.next_reason += 1;
        let reason = self.next_reason;
        self.world.model().request(root, Some(reason), true, now());
        task.cancel_with(&reason.to_string());
    }

    /// Hands bytes over: they are there when the loop turns.
    async fn write(&mut self, pipe: usize, count: u8) {
        let bytes: Vec<u8> = (self.next_byte..BYTES_MAX).take(count.into()).collect();
        self.next_byte += bytes.len() as u8;
        self.world.model().give(pipe, bytes.len());
        let mut write = submit(Write(self.world.pipes[pipe].1, bytes));
        if poll_once(&mut write).await.is_pending() {
            self.writes.push(write);
        }
    }

    /// Stops what is left, and lets go of what it may wait for.
    async fn finish(&mut self) {
        const ROUNDS_MAX: u32 = 600;
        for round in 0.. {
            let live = self.live();
            if live.is_empty() || self.world.model().fault.is_some() {
                break;
            }
            if round == ROUNDS_MAX {
                let text = format!("hang: {live:?} at the end");
                self.world.model().fault(format_args!("{text}"));
                return;
            }
            for which in 0..KINDS {
                self.act(Action::Set(which)).await;
                self.act(Action::Release(which)).await;
                let reads = |leaf: &Leaf| !leaf.over && leaf.wait == Wait::Read(which);
                let waited_for = self.world.model().leaves.iter().any(reads);
                if waited_for && round > 2 {
                    self.act(Action::Write(which, 1)).await;
                }
            }
            if round % 4 == 0 {
                for (root, task) in live {
                    self.cancel(root, &task);
                }
            }
            self.sleep(3).await;
        }
        for write in std::mem::take(&mut self.writes) {
            write.await.0.expect("the pipe is open");
        }
        // What was dropped in flight.
        for _ in 0..ROUNDS_MAX {
            if Stats::current().in_flight == 0 {
                break;
            }
            self.sleep(3).await;
        }
        for pipe in 0..KINDS {
            self.drain(pipe).await;
        }
    }

    async fn drain(&self, pipe: usize) {
        while self.world.model().is_left(pipe) {
            let take = Take {
                world: self.world.clone(),
                pipe,
                buf: vec![UNTOUCHED; CAPACITY],
            };
            if wait_for(submit(take), 4 * self.world.tick).await.0.is_err() {
                break;
            }
        }
    }
}

// ---- one case ----

#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Sim,
    Uring,
}

/// What is wrong with a case, and what happened.
fn check(case: &Case, on: On) -> Result<(), (String, String)> {
    let kernel = (on == On::Sim).then(Kernel::new);
    let builder = match &kernel {
        Some(kernel) => Runner::builder().sim(kernel),
        None => Runner::builder().sq_entries(64).cq_entries(1024),
    };
    let timers = if case.heap {
        Timers::Heap
    } else {
        Timers::Auto
    };
    let mut runner = builder.timers(timers).build().expect("io_uring");
    let mut real = Vec::new();
    let pipes = [(); KINDS].map(|()| match &kernel {
        Some(kernel) => kernel.pipe(),
        None => {
            let (reader, writer) = io::pipe().expect("descriptors are left");
            let fds = (reader.as_raw_fd(), writer.as_raw_fd());
            real.push((reader, writer));
            fds
        }
    });
    let tick = if on == On::Sim { MS } else { MS / 4 };
    let model = Model {
        sim: on == On::Sim,
        stubborn: case.stubborn,
        tick,
        ..Model::default()
    };
    let world = Rc::new(World {
        model: RefCell::new(model),
        tick,
        kernel,
        stubborn: case.stubborn,
        locks: Default::default(),
        events: Default::default(),
        pipes,
        bytes: RefCell::default(),
        returned: RefCell::default(),
        tasks: RefCell::default(),
        switches: Default::default(),
    });
    let ran = catch_unwind(AssertUnwindSafe(|| {
        runner.run(drive(case, &world));
        if world.model().fault.is_none() {
            finish(runner);
        }
    }));
    let result = ran
        .map_err(|_| "panic".to_owned())
        .and_then(|()| world.left());
    result.map_err(|fault| (fault, std::mem::take(&mut world.model().trace)))
}

impl World {
    /// What is wrong at the end.
    fn left(&self) -> Result<(), String> {
        let mut model = self.model();
        if let Some(fault) = model.fault.take() {
            return Err(fault);
        }
        for pipe in 0..KINDS {
            let bytes = &self.bytes.borrow()[pipe];
            let once: BTreeSet<u8> = bytes.iter().copied().collect();
            if (once.len(), bytes.len()) != (model.given[pipe], model.given[pipe]) {
                return Err(format!("C1: of {} bytes {bytes:?} came", model.given[pipe]));
            }
        }
        if let Some(lock) = self.locks.iter().position(Lock::locked) {
            return Err(format!("C1: lock {lock} is held by nobody"));
        }
        let returned = self.returned.borrow();
        if returned.iter().flatten().any(|&byte| byte != UNTOUCHED) {
            return Err("C4: the kernel wrote to a buffer that was back".to_owned());
        }
        Ok(())
    }
}

/// The smallest case that has a fault of the same kind.
fn shrink(mut case: Case, on: On, fault: &str) -> Case {
    let kind = |fault: &str| fault.split(':').next().map(str::to_owned);
    let mut runs = 0;
    while let Some(smaller) = case.smaller().into_iter().find(|case| {
        runs += 1;
        runs < 20_000 && check(case, on).is_err_and(|(other, _)| kind(&other) == kind(fault))
    }) {
        case = smaller;
    }
    case
}

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn cases(on: On, count: u64) {
    let seeds = match number_from("CORING_PROPERTY_SEED") {
        Some(seed) => seed..seed + number_from("CORING_PROPERTY_CASES").unwrap_or(1),
        None => 0..number_from("CORING_PROPERTY_CASES").unwrap_or(count),
    };
    for seed in seeds {
        let case = Case::new(seed);
        let Err((fault, _)) = check(&case, on) else {
            continue;
        };
        let small = shrink(case, on, &fault);
        let (last, trace) = check(&small, on).err().unwrap_or_default();
        panic!(
            "{fault}\nshrunk: {last}\n{small}\n{trace}\nCORING_PROPERTY_SEED={seed} again runs it"
        );
    }
}

#[test]
fn programs_that_are_stopped_at_random_keep_the_contract_on_sim() {
    let _alone = common::World::sim();
    // A case takes Miri almost two seconds.
    cases(On::Sim, if cfg!(miri) { 20 } else { 2_000 });
}

#[cfg(not(miri))]
#[test]
fn programs_that_are_stopped_at_random_keep_the_contract_on_uring() {
    let _alone = common::World::uring();
    cases(On::Uring, 100);
}

//! How `run` ends: the tasks that are left are asked to stop, and given time for that.

use std::collections::HashSet;
use std::future::Future;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::current;
use crate::task::{TaskRef, all_tasks, current_task};
use crate::{Instant, Timer, now};

/// How often the tasks are asked: the second time for those that took the first for something
/// else, and went on.
const ASKS: u32 = 2;

/// Turns that a task has to hear of it before it counts as one that cannot.
const TURNS_TO_HEAR: u32 = 2;

/// How often it is looked whether all have ended, each time of asking.
const LOOKS_MAX: u32 = 100_000;

/// For how long what cannot be waited for is not looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Asks all other tasks to stop, and those that they make meanwhile, and waits until they have
/// ended, `grace` for each time of asking. What knows nothing of coring is dropped, as it is where
/// a combinator is to drain it (C5). Gives those that are left.
pub(crate) async fn wind_down(grace: Duration) -> Vec<TaskRef> {
    let me = current_task();
    let others = || {
        let mut all = all_tasks();
        all.retain(|task| *task != me);
        all
    };
    for _ in 0..ASKS {
        let deadline = now() + grace;
        let mut asked = HashSet::new();
        // Time may stand still as long as tasks make others.
        for _ in 0..LOOKS_MAX {
            let left = others();
            if left.is_empty() {
                return left;
            }
            let mut fresh = false;
            for task in &left {
                if asked.insert(task.id()) {
                    fresh = true;
                    task.cancel();
                }
            }
            if fresh {
                for _ in 0..TURNS_TO_HEAR {
                    // Nobody asks this task to stop.
                    let _ = crate::yield_now().await;
                }
            }
            for task in left {
                task.abort_if_deaf();
            }
            if now() >= deadline {
                break;
            }
            if !fresh {
                some_end(deadline.min(now() + LOOK_AGAIN)).await;
            }
        }
    }
    others()
}

/// Until a task ends, or a moment.
async fn some_end(until: Instant) {
    let mut timer = Timer::at(until);
    let mut waited = false;
    std::future::poll_fn(|cx| {
        current::with(|current| {
            if let Some((runtime, current)) = current {
                runtime.watch_ends(current.task.get());
            }
        });
        // Woken is enough: whoever waits looks.
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        Pin::new(&mut timer).poll(cx).map(drop)
    })
    .await;
}

/// Says on stderr which tasks are dropped.
pub(crate) fn report(left: &[TaskRef], grace: Duration) {
    if left.is_empty() {
        return;
    }
    let mut text = format!(
        "coring: {} did not end within {grace:?} of being asked to stop, {ASKS} times, and {} \
         dropped:",
        if left.len() == 1 { "a task" } else { "tasks" },
        if left.len() == 1 { "is" } else { "are" },
    );
    for task in left {
        text += &format!(" {} ({})", task.name(), task.spawned_at());
    }
    // There is nobody to give an error to, and this goes on where nobody reads it.
    let _ = writeln!(io::stderr(), "{text}");
}

//! A task group: one of its tasks fails, so the others are stopped, and clean up with awaits before
//! the group ends.
//!
//! Run it with `cargo run --release --example structured`.

use std::io;
use std::time::Duration;

use coring::{is_cancelled, now, ok, run, shielded_for, sleep, task_group};

/// Brings parcels until it is stopped, and takes the last one back.
async fn deliver(name: &str, pause: Duration) -> io::Result<()> {
    for parcel in 1.. {
        if let Err(stopped) = sleep(pause).await {
            // Clean-up may await: the request was heard, and is not heard again. The shield keeps
            // a second one out, and its limit keeps this from lasting for ever.
            shielded_for(Duration::from_secs(1), take_back(name, parcel)).await?;
            return Err(stopped);
        }
        println!("{name}: parcel {parcel} is there");
    }
    ok(())
}

async fn take_back(name: &str, parcel: u32) -> io::Result<()> {
    sleep(Duration::from_millis(100)).await?;
    println!("{name}: parcel {parcel} is back");
    ok(())
}

async fn fails() -> io::Result<()> {
    sleep(Duration::from_millis(1_100)).await?;
    Err(io::Error::other("the van has broken down"))
}

fn main() {
    run(async {
        let begin = now();
        let day = task_group(async |g| {
            g.create_task(deliver("ada", Duration::from_millis(300)));
            g.create_task(deliver("grace", Duration::from_millis(500)));
            g.create_task(fails());
            // The body is stopped as well.
            let rest = sleep(Duration::from_secs(3_600)).await;
            println!(
                "body: stopped: {}",
                rest.as_ref().is_err_and(|error| is_cancelled(error))
            );
            rest
        });
        // All of them have ended by now, and nothing of theirs is left.
        match day.await {
            Ok(()) => println!("the day is over"),
            Err(group) => println!("the day ended after {:.1?}: {group}", now() - begin),
        }
    });
}

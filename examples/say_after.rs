//! asyncio's two classic programs: one after the other, and both at once.
//!
//! Run it with `cargo run --release --example say_after`.

use std::io;
use std::time::Duration;

use coring::{create_task, ok, run, sleep};

async fn say_after(delay: Duration, what: &str) -> io::Result<()> {
    sleep(delay).await?;
    println!("{what}");
    ok(())
}

const ONE: Duration = Duration::from_secs(1);
const TWO: Duration = Duration::from_secs(2);

async fn one_after_the_other() -> io::Result<()> {
    println!("started at {}", clock());
    say_after(ONE, "hello").await?;
    say_after(TWO, "world").await?;
    println!("finished at {}", clock());
    ok(())
}

async fn both_at_once() -> io::Result<()> {
    let hello = create_task(say_after(ONE, "hello"));
    let world = create_task(say_after(TWO, "world"));
    println!("started at {}", clock());
    hello.await?;
    world.await?;
    println!("finished at {}", clock());
    ok(())
}

fn main() -> io::Result<()> {
    println!("one after the other, 3 s in all:");
    run(one_after_the_other())?;
    println!("both at once, 2 s in all:");
    run(both_at_once())
}

/// The time of day, as `strftime('%X')` gives it.
fn clock() -> impl std::fmt::Display {
    jiff::Zoned::now().strftime("%X")
}

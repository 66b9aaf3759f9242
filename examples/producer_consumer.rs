//! Producers and consumers around a queue with room for four; its shutdown ends the consumers.
//!
//! Run it with `cargo run --release --example producer_consumer`.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use coring::sync::Queue;
use coring::{gather_all, ok, run, sleep, task_group};

const ITEMS: u32 = 10;

async fn produce(queue: Rc<Queue<(u32, u32)>>, producer: u32) -> io::Result<()> {
    for item in 0..ITEMS {
        queue.put((producer, item)).await?; // Waits while there is no room.
        sleep(Duration::from_millis(10)).await?;
    }
    ok(())
}

async fn consume(queue: Rc<Queue<(u32, u32)>>, consumer: u32) -> io::Result<u32> {
    let mut sum = 0;
    // None: nothing is left, and nothing comes.
    while let Some((producer, item)) = queue.next().await? {
        sleep(Duration::from_millis(15)).await?;
        println!("consumer {consumer}: item {item} of producer {producer}");
        sum += 1;
    }
    ok(sum)
}

fn main() -> io::Result<()> {
    run(async {
        let queue = Rc::new(Queue::new(4));
        let consumed = task_group(async |g| {
            let consumers = [1, 2].map(|n| g.create_task(consume(queue.clone(), n)));
            let producers = [1, 2, 3].map(|n| g.create_task(produce(queue.clone(), n)));
            gather_all(producers).await?;
            queue.shutdown(false); // What is in is got still.
            ok(gather_all(consumers).await?)
        });
        let consumed = consumed.await?;
        println!(
            "consumed: {} and {} of {}",
            consumed[0],
            consumed[1],
            3 * ITEMS
        );
        ok(())
    })
}

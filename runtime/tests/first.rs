//! The loop, its tasks and its operations, at their plainest.

mod common;

use std::time::Duration;

use common::*;
use coring_runtime::*;

each_driver! {
    fn nop_completes(world) {
        world.run(async {
            assert_eq!(nop().await.expect("a NOP succeeds"), 0);
        });
    }

    fn task_gives_its_output(world) {
        world.run(async {
            let task = create_task(async {
                nop().await.expect("a NOP succeeds");
                7
            });
            assert!(!task.done());
            assert_eq!(task.await, 7);
        });
    }

    fn read_waits_for_the_write_and_gives_its_buffer_back(world) {
        let (reader, writer) = world.pipe();
        world.run(async {
            let task = create_task(async move { read(reader, 16).await });
            yield_now().await.expect("nobody cancels");
            let BufResult(written, sent) = write(writer, b"hello").await;
            assert_eq!(written.expect("the pipe is open"), 5);
            assert_eq!(&*sent, b"hello");
            let BufResult(n, buf) = task.await;
            assert_eq!(n.expect("the pipe is open"), 5);
            assert_eq!(&buf[..5], b"hello");
        });
    }

    fn timer_is_never_early(world) {
        world.run(async {
            let begin = now();
            Timer::after(Duration::from_millis(5)).await.expect("nobody cancels");
            assert!(now() - begin >= Duration::from_millis(5));
        });
    }
}

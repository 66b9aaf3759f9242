//! What the five benches share.

use std::io;
use std::time::{Duration, Instant};

use coring_benches::{SERVER_CORE, pin_to};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};

/// Short, so that all five are over in two minutes; on the core of the other programs.
pub(crate) fn criterion() -> Criterion {
    pin_to(SERVER_CORE).expect("a core to stay on");
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args()
}

/// Times `run(n)`, which performs n operations.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
pub(crate) fn case(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut run: impl FnMut(u64) -> io::Result<()>,
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|n| {
            let began = Instant::now();
            run(n).expect("the work");
            began.elapsed()
        });
    });
}

//! What do very many sleeps cost: to arm, to let fire, to cancel, and in memory?
//!
//! And how late is one that is alone?
//!
//! Each measurement has a process of its own, so that resident memory is its own; `beside` compares
//! coring's modes in shuffled windows of one process, and `late` has each sleeper sleep once a
//! round, in shuffled order.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use coring::{Runner, Timers};
use coring_benches::cases::sleepers::{self, Coring, KEEPERS, Keeper, Order};
use coring_benches::cases::tokio as theirs;
use coring_benches::raw::{self, Turns, sleeps};
use coring_benches::{
    Case, Host, Measurement, SERVER_CORE, Schedule, compare, cost_of, pin_to, render, run_child,
};

const USAGE: &str = "\
timers [fire,cancel,beside,late] [--runs 7] [--cycles 20] [--csv FILE]";

/// The kernel walks a list of its timeouts to cancel one: among a million that takes 120 ms.
const KERNEL_SLEEPS: u64 = 10_000;
const SLEEPS: [u64; 2] = [100_000, 1_000_000];
const ORDERS: [(&str, Order); 3] = [
    ("oldest-first", Order::OldestFirst),
    ("newest-first", Order::NewestFirst),
    ("random", Order::Random),
];
/// Sleeps that are armed already.
const OTHERS: [u64; 6] = [0, 16, 64, 128, 256, 1_024];
/// What is armed beside them, at once.
const BATCH: usize = 8;
const SHORT: Duration = Duration::from_micros(50);
/// What sleeps alone, and how often.
const LONE: Duration = Duration::from_millis(1);
const ROUNDS: u32 = 2_000;

const FIRE: [&str; 9] = [
    "runtime",
    "sleeps",
    "run",
    "arm CPU ms",
    "fire CPU ms",
    "total CPU ms",
    "late p50 us",
    "late p99 us",
    "resident MB",
];
const CANCEL: [&str; 6] = [
    "runtime",
    "sleeps",
    "run",
    "order",
    "arm CPU ns",
    "cancel CPU ns",
];
const BESIDE: [&str; 6] = [
    "work",
    "armed",
    "Kernel ns",
    "Heap ns",
    "Heap/Kernel",
    "95 %",
];
const LATE: [&str; 5] = ["sleeper", "p50 us", "p99 us", "p50 x raw", "p99 x raw"];

fn main() -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;

    let mut groups = ["fire", "cancel", "beside", "late"]
        .map(str::to_owned)
        .to_vec();
    let mut schedule = Schedule {
        cycles: 20,
        window: Duration::from_millis(10),
        ..Schedule::default()
    };
    let (mut runs, mut csv) = (7, None::<PathBuf>);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(value) => groups = value.string()?.split(',').map(str::to_owned).collect(),
            Long("runs") => runs = parser.value()?.parse()?,
            Long("cycles") => schedule.cycles = parser.value()?.parse()?,
            Long("csv") => csv = Some(parser.value()?.into()),
            Long("child") => {
                let words = parser
                    .values()?
                    .map(ValueExt::string)
                    .collect::<Result<_, _>>()?;
                return child(words);
            }
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(());
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    let mut csv = csv.map(File::create).transpose()?.map(BufWriter::new);
    for group in groups {
        let rows = match group.as_str() {
            "fire" => children(&FIRE, runs, &[("", Order::OldestFirst)])?,
            "cancel" => children(&CANCEL, runs, &ORDERS)?,
            "beside" => beside(schedule, csv.as_mut())?,
            "late" => late()?,
            _ => return Err(USAGE.into()),
        };
        println!("{}{}", Host::here(), render(&rows));
        match group.as_str() {
            "fire" => println!("{}", render(&over_tokio(&rows, 3))),
            "cancel" => println!("{}", render(&over_tokio(&rows, 4))),
            _ => {}
        }
        if let Some(csv) = csv.as_mut().filter(|_| group != "beside") {
            write!(csv, "{}", Host::here())?;
            for row in rows {
                writeln!(csv, "{}", row.join(","))?;
            }
        }
    }
    Ok(())
}

/// Runs every measurement in a process of its own, as often as told, in an order shuffled each time.
fn children(
    heading: &[&str],
    runs: u32,
    orders: &[(&str, Order)],
) -> Result<Vec<Vec<String>>, Box<dyn Error>> {
    let mut rows = vec![heading.iter().map(|&word| word.to_owned()).collect()];
    let mut random = fastrand::Rng::with_seed(1);
    for n in [KERNEL_SLEEPS].into_iter().chain(SLEEPS) {
        for run in 0..runs {
            let mut turns = Vec::new();
            for keeper in KEEPERS {
                if n <= KERNEL_SLEEPS || keeper != Keeper::Coring(Timers::Kernel) {
                    turns.extend(orders.iter().map(|(order, _)| (keeper, *order)));
                }
            }
            random.shuffle(&mut turns);
            for (keeper, order) in turns {
                let mut row = vec![keeper.to_string(), n.to_string(), run.to_string()];
                let mut words = vec![row[0].as_str(), row[1].as_str()];
                words.extend(Some(order).filter(|order| !order.is_empty()));
                let figures = run_child(&words)?;
                row.extend(Some(order.to_owned()).filter(|order| !order.is_empty()));
                row.extend(figures);
                rows.push(row);
            }
        }
    }
    // Stable, and no case has two rows in a run: in each the runs stay in their order.
    let figures = if orders.len() > 1 { 4 } else { 3 };
    rows[1..].sort_by(|one, other| case(one, figures).cmp(&case(other, figures)));
    Ok(rows)
}

/// What is measured in a row of `children`: sleeps, order if there is one, runtime.
fn case(row: &[String], figures: usize) -> (u64, &[String], &str) {
    (row[1].parse().unwrap_or(0), &row[3..figures], &row[0])
}

/// The figures of each case, in columns from `figures` on, over tokio's in the same run: the median
/// and the range of all runs.
fn over_tokio(rows: &[Vec<String>], figures: usize) -> Vec<Vec<String>> {
    let (heading, rows) = rows.split_first().expect("there is a heading");
    let cases: Vec<_> = rows
        .chunk_by(|one, next| case(one, figures) == case(next, figures))
        .collect();
    let named = |row: &[String], name: String| {
        let mut named = vec![name, row[1].clone()];
        named.extend_from_slice(&row[3..figures]);
        named
    };
    let mut table = vec![named(heading, "x tokio".to_owned())];
    table[0].extend_from_slice(&heading[figures..]);
    for runs in &cases {
        let (sleeps, order, runtime) = case(&runs[0], figures);
        let theirs = cases
            .iter()
            .find(|theirs| case(&theirs[0], figures) == (sleeps, order, "tokio"));
        let Some(theirs) = theirs.filter(|_| runtime != "tokio") else {
            continue;
        };
        let mut row = named(&runs[0], runtime.to_owned());
        for column in figures..heading.len() {
            let figure = |row: &[String]| row[column].parse().unwrap_or(f64::NAN);
            let pairs = runs.iter().zip(*theirs);
            let mut ratios: Vec<f64> = pairs.map(|(a, b)| figure(a) / figure(b)).collect();
            ratios.sort_by(f64::total_cmp);
            let [low, middle, high] = [0, ratios.len() / 2, ratios.len() - 1].map(|at| ratios[at]);
            row.push(format!("{middle:.2} ({low:.2}-{high:.2})"));
        }
        table.push(row);
    }
    table
}

/// One measurement: `RUNTIME SLEEPS [ORDER]`. Prints its figures.
fn child(mut words: VecDeque<String>) -> Result<(), Box<dyn Error>> {
    let mut next = || words.pop_front();
    let (Some(keeper), Some(n)) = (next(), next()) else {
        return Err(USAGE.into());
    };
    let (keeper, n): (Keeper, u64) = (keeper.parse()?, n.parse()?);
    let Some(order) = next() else {
        let (fired, cost) = cost_of(|| sleepers::fire(keeper, n))?;
        let milliseconds = |ns: u64| ns as f64 / 1e6;
        let late = |quantile| fired.lateness.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{:.2} {:.2} {:.2} {:.0} {:.0} {:.1}",
            milliseconds(fired.arm_ns),
            milliseconds(fired.fire_ns),
            milliseconds(fired.arm_ns + fired.fire_ns),
            late(0.5),
            late(0.99),
            cost.resident_bytes as f64 / 1e6,
        );
        return Ok(());
    };
    let order = ORDERS
        .iter()
        .find(|(name, _)| *name == order)
        .ok_or(USAGE)?
        .1;
    let ((arm, cancel), _) = cost_of(|| sleepers::cancel(keeper, n, order))?;
    println!(
        "{:.1} {:.1}",
        arm as f64 / n as f64,
        cancel as f64 / n as f64
    );
    Ok(())
}

/// What one more sleep costs beside others, in each mode.
fn beside(schedule: Schedule, mut csv: Option<&mut impl Write>) -> io::Result<Vec<Vec<String>>> {
    let mut rows = vec![BESIDE.map(str::to_owned).to_vec()];
    let works = [
        format!("{BATCH} at once, cancelled"),
        format!("{BATCH} at once, fired"),
        "one by one, cancelled".to_owned(),
        "one by one, fired".to_owned(),
    ];
    for armed in OTHERS {
        let mut cases = Vec::new();
        for mode in [Timers::Kernel, Timers::Heap] {
            for (place, work) in works.iter().enumerate() {
                let mut coring = Coring::new(mode, armed)?;
                let name = format!("{work}; {armed} others; {mode:?}");
                cases.push(Case::new(&name, move |n| match place {
                    0 => coring.cancel::<BATCH>(n),
                    1 => coring.fire::<BATCH>(SHORT, n),
                    2 => coring.cancel::<1>(n),
                    _ => coring.fire::<1>(SHORT, n),
                }));
            }
        }
        let comparison = compare(&mut cases, schedule)?;
        for (kernel, work) in works.iter().enumerate() {
            let heap = kernel + works.len();
            let cpu = Measurement::cpu_ns_per_operation;
            let ratio = comparison.ratio(heap, kernel, cpu);
            rows.push(vec![
                work.clone(),
                armed.to_string(),
                format!("{:.1}", comparison.median(kernel, cpu)),
                format!("{:.1}", comparison.median(heap, cpu)),
                format!("{:.3}", ratio.median),
                format!("{:.3}-{:.3}", ratio.low, ratio.high),
            ]);
        }
        if let Some(csv) = &mut csv {
            comparison.write_csv(csv)?;
        }
    }
    rows[1..].sort_by(|one, other| one[0].cmp(&other[0]));
    Ok(rows)
}

/// How late one sleep comes that is alone: beside an enter that waits as long, which is as early as
/// a ring can have it.
fn late() -> io::Result<Vec<Vec<String>>> {
    pin_to(SERVER_CORE)?;
    let mut ring = raw::ring()?;
    let mut turns = Turns::new(&mut ring)?;
    let mut kernel = Runner::builder().timers(Timers::Kernel).build()?;
    let mut heap = Runner::builder().timers(Timers::Heap).build()?;
    let (tokio, _) = theirs::runtime()?;
    let mut raw = || {
        let begin = begin();
        sleeps::sleep_in_enter(&mut turns, LONE, 1)?;
        lateness(begin)
    };
    let mut kernel = || kernel.run(sleep_late(coring::sleep));
    let mut heap = || heap.run(sleep_late(coring::sleep));
    let mut tokio = || tokio.block_on(sleep_late(tokio::time::sleep));
    let sleepers: [(&str, &mut dyn FnMut() -> io::Result<u64>); 4] = [
        ("raw enter", &mut raw),
        ("coring-Kernel", &mut kernel),
        ("coring-Heap", &mut heap),
        ("tokio", &mut tokio),
    ];
    let mut late = sleepers.each_ref().map(|_| Vec::new());
    let mut order = [0, 1, 2, 3];
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..ROUNDS {
        random.shuffle(&mut order);
        for place in order {
            late[place].push((sleepers[place].1)()?);
        }
    }
    let late = late.map(|mut late| {
        late.sort_unstable();
        [50, 99].map(|percent| late[late.len() * percent / 100] as f64 / 1e3)
    });
    let raw = late[0];
    let mut rows = vec![LATE.map(str::to_owned).to_vec()];
    for ((name, _), [p50, p99]) in sleepers.iter().zip(late) {
        rows.push(vec![
            (*name).to_owned(),
            format!("{p50:.1}"),
            format!("{p99:.1}"),
            format!("{:.3}", p50 / raw[0]),
            format!("{:.3}", p99 / raw[1]),
        ]);
    }
    Ok(rows)
}

async fn sleep_late<F: Future>(sleep: impl FnOnce(Duration) -> F) -> io::Result<u64> {
    let begin = begin();
    sleep(LONE).await;
    lateness(begin)
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn begin() -> Instant {
    Instant::now()
}

/// In nanoseconds, of a sleep that began then.
fn lateness(begin: Instant) -> io::Result<u64> {
    let late = begin.elapsed().checked_sub(LONE);
    let late = late.ok_or_else(|| io::Error::other("a sleep ended early"))?;
    u64::try_from(late.as_nanos()).map_err(io::Error::other)
}

//! Closures without a peer, each run for a window in turn.

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::affinity::{SERVER_CORE, pin_to};
use super::cpu::own_process_ns;
use super::host::Host;
use super::stats::{Spread, median};
use super::table::render;

/// Work to compare: a name, and a closure that performs as many operations as it is told.
pub struct Case<'a> {
    name: String,
    operations: Option<u64>,
    run: Box<dyn FnMut(u64) -> io::Result<Spent> + 'a>,
}

/// What some operations took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// CPU time of the whole process that did them.
    pub cpu_ns: u64,
    /// Time by the wall clock.
    pub wall_ns: u64,
}

impl<'a> Case<'a> {
    /// `run(n)` performs n operations; how many at a time is found out before the first cycle.
    pub fn new(name: &str, mut run: impl FnMut(u64) -> io::Result<()> + 'a) -> Case<'a> {
        Case::elsewhere(name, move |operations| {
            let (began, before) = (Instant::now(), own_process_ns()?);
            run(operations)?;
            Ok(Spent {
                cpu_ns: own_process_ns()? - before,
                wall_ns: began.elapsed().as_nanos() as u64,
            })
        })
    }

    /// As [`Case::new`], for work that another process does, and measures.
    pub fn elsewhere(name: &str, run: impl FnMut(u64) -> io::Result<Spent> + 'a) -> Case<'a> {
        Case {
            name: name.to_owned(),
            operations: None,
            run: Box::new(run),
        }
    }

    /// As [`Case::new`], with `operations` at a time: for work whose cost depends on how much
    /// there is at once.
    pub fn sized(
        name: &str,
        operations: u64,
        run: impl FnMut(u64) -> io::Result<()> + 'a,
    ) -> Case<'a> {
        Case::new(name, run).times(operations)
    }

    /// With `operations` at a time, as [`Case::sized`].
    #[must_use]
    pub fn times(mut self, operations: u64) -> Case<'a> {
        self.operations = Some(operations);
        self
    }

    /// Runs until `window` is over, at least once.
    fn window(&mut self, operations: u64, window: Duration) -> io::Result<(u64, Spent)> {
        let began = Instant::now();
        let (mut done, mut cpu_ns, mut wall_ns) = (0, 0, 0);
        loop {
            let spent = (self.run)(operations)?;
            done += operations;
            cpu_ns += spent.cpu_ns;
            wall_ns += spent.wall_ns;
            if began.elapsed() >= window {
                return Ok((done, Spent { cpu_ns, wall_ns }));
            }
        }
    }

    /// Operations that take about a tenth of a window; doing them warms the case up too.
    fn calibrate(&mut self, window: Duration) -> io::Result<u64> {
        let mut operations = self.operations.unwrap_or(1);
        let enough = (window / 20).as_nanos();
        loop {
            let spent = (self.run)(operations)?;
            if self.operations.is_some() || u128::from(spent.wall_ns) >= enough {
                return Ok(operations);
            }
            operations *= 2;
        }
    }
}

impl fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How often each case runs, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Windows per case.
    pub cycles: u32,
    /// How long a case runs at a time; it ends with the operations that were begun.
    pub window: Duration,
    /// Of the shuffles.
    pub seed: u64,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule {
            cycles: 40,
            window: Duration::from_millis(50),
            seed: 1,
        }
    }
}

/// One case in one window.
#[derive(Debug, Clone, Copy)]
pub struct Measurement {
    /// Which cycle.
    pub cycle: u32,
    /// Which case, as an index into [`Comparison::cases`].
    pub case: usize,
    /// Operations performed.
    pub operations: u64,
    /// CPU time of the whole process, so that the helpers a case starts are counted.
    pub cpu_ns: u64,
    /// Time by the wall clock.
    pub wall_ns: u64,
}

impl Measurement {
    /// CPU nanoseconds per operation.
    pub fn cpu_ns_per_operation(&self) -> f64 {
        self.cpu_ns as f64 / self.operations as f64
    }

    /// Nanoseconds of the wall clock per operation.
    pub fn wall_ns_per_operation(&self) -> f64 {
        self.wall_ns as f64 / self.operations as f64
    }
}

/// The samples of some cases.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Where and when.
    pub host: Host,
    /// How it was run.
    pub schedule: Schedule,
    /// The cases' names.
    pub cases: Vec<String>,
    /// In the order in which they were taken.
    pub measurements: Vec<Measurement>,
}

/// Runs every case in every cycle, in an order shuffled each cycle, on the calling thread, which
/// it pins to the servers' core.
///
/// # Errors
///
/// What a case returns, with its name.
pub fn compare(cases: &mut [Case<'_>], schedule: Schedule) -> io::Result<Comparison> {
    pin_to(SERVER_CORE)?;
    let blame =
        |name: &str, error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    let mut operations = Vec::new();
    for case in &mut *cases {
        operations.push(
            case.calibrate(schedule.window)
                .map_err(|error| blame(&case.name, error))?,
        );
    }
    let mut measurements = Vec::new();
    let mut random = fastrand::Rng::with_seed(schedule.seed);
    let mut order: Vec<usize> = (0..cases.len()).collect();
    for cycle in 0..schedule.cycles {
        random.shuffle(&mut order);
        for &index in &order {
            let case = &mut cases[index];
            let (operations, spent) = case
                .window(operations[index], schedule.window)
                .map_err(|error| blame(&case.name, error))?;
            measurements.push(Measurement {
                cycle,
                case: index,
                operations,
                cpu_ns: spent.cpu_ns,
                wall_ns: spent.wall_ns,
            });
        }
    }
    let cases = cases.iter().map(|case| case.name.clone()).collect();
    Ok(Comparison {
        host: Host::here(),
        schedule,
        cases,
        measurements,
    })
}

impl Comparison {
    /// The case's figure over the baseline's in the same cycle, over all cycles.
    pub fn ratio(
        &self,
        case: usize,
        baseline: usize,
        figure: impl Fn(&Measurement) -> f64,
    ) -> Spread {
        let ratios: Vec<f64> = self
            .of(case)
            .zip(self.of(baseline))
            .map(|(one, base)| figure(one) / figure(base))
            .collect();
        Spread::of(&ratios, self.schedule.seed)
    }

    /// What the case needs above another one in the same cycle, over all cycles.
    pub fn difference(
        &self,
        case: usize,
        other: usize,
        figure: impl Fn(&Measurement) -> f64,
    ) -> Spread {
        let differences: Vec<f64> = self
            .of(case)
            .zip(self.of(other))
            .map(|(one, other)| figure(one) - figure(other))
            .collect();
        Spread::of(&differences, self.schedule.seed)
    }

    /// One line a pair: the CPU time that its first case needs above its second, by name.
    pub fn differences(&self, pairs: &[(&str, &str)]) -> String {
        let place = |name: &str| self.cases.iter().position(|case| case == name);
        let heading = ["extra CPU ns/op", "median", "quartiles", "95 %"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for (name, other) in pairs {
            if let (Some(case), Some(base)) = (place(name), place(other)) {
                let extra = self.difference(case, base, Measurement::cpu_ns_per_operation);
                rows.push(vec![
                    format!("{name} - {other}"),
                    format!("{:.1}", extra.median),
                    format!("{:.1} to {:.1}", extra.lower_quartile, extra.upper_quartile),
                    format!("{:.1} to {:.1}", extra.low, extra.high),
                ]);
            }
        }
        render(&rows)
    }

    /// The median over the cycles.
    pub fn median(&self, case: usize, figure: impl Fn(&Measurement) -> f64) -> f64 {
        median(self.of(case).map(figure))
    }

    /// The summary as text, ratios to the case called `baseline`, or else to the first one.
    pub fn table(&self, baseline: &str) -> String {
        let base = self
            .cases
            .iter()
            .position(|name| name == baseline)
            .unwrap_or(0);
        let baseline = self.cases.get(base).map_or("nothing", String::as_str);
        let ratio = format!("CPU x {baseline}");
        let heading = [
            "case",
            &ratio,
            "quartiles",
            "95 %",
            "CPU ns/op",
            "wall ns/op",
        ];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for (case, name) in self.cases.iter().enumerate() {
            let cpu = self.ratio(case, base, Measurement::cpu_ns_per_operation);
            rows.push(vec![
                name.clone(),
                format!("{:.3}", cpu.median),
                format!("{:.3}-{:.3}", cpu.lower_quartile, cpu.upper_quartile),
                format!("{:.3}-{:.3}", cpu.low, cpu.high),
                format!(
                    "{:.1}",
                    self.median(case, Measurement::cpu_ns_per_operation)
                ),
                format!(
                    "{:.1}",
                    self.median(case, Measurement::wall_ns_per_operation)
                ),
            ]);
        }
        let Schedule { cycles, window, .. } = self.schedule;
        format!(
            "{}# {cycles} cycles of {window:?}\n{}",
            self.host,
            render(&rows)
        )
    }

    /// Writes every sample as a line of comma-separated values, after a commented header.
    ///
    /// # Errors
    ///
    /// What `to` answers.
    pub fn write_csv(&self, to: &mut impl Write) -> io::Result<()> {
        write!(to, "{}", self.host)?;
        writeln!(to, "cycle,case,operations,cpu_ns,wall_ns")?;
        for one in &self.measurements {
            let name = &self.cases[one.case];
            let Measurement {
                cycle,
                operations,
                cpu_ns,
                wall_ns,
                ..
            } = one;
            writeln!(to, "{cycle},\"{name}\",{operations},{cpu_ns},{wall_ns}")?;
        }
        Ok(())
    }

    fn of(&self, case: usize) -> impl Iterator<Item = &Measurement> {
        self.measurements.iter().filter(move |one| one.case == case)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::{Case, Schedule, compare};

    #[test]
    fn a_sized_case_runs_as_it_is_told() {
        let sizes = Cell::new(0);
        let mut cases = [Case::sized("seven", 7, |operations| {
            assert_eq!(operations, 7);
            sizes.set(sizes.get() + 1);
            Ok(())
        })];
        let schedule = Schedule {
            cycles: 2,
            window: Duration::ZERO,
            seed: 1,
        };
        let comparison = compare(&mut cases, schedule).expect("a run");
        drop(cases);
        assert_eq!((comparison.measurements.len(), sizes.get()), (2, 3));
        assert!(comparison.table("seven").contains("seven"));
    }

    #[test]
    fn a_failure_names_its_case() {
        let mut cases = [Case::new("broken", |_| {
            Err(std::io::ErrorKind::NotFound.into())
        })];
        let error = compare(&mut cases, Schedule::default()).expect_err("it fails");
        assert!(error.to_string().starts_with("broken: "));
    }
}

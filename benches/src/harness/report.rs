//! What a round robin gives back: every sample, and their summary as a table.

use std::io::{self, Write};

use super::client::Window;
use super::host::Host;
use super::round_robin::{Request, Workload};
use super::stats::{Spread, median};
use super::table::render;

/// One server in one window.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Which cycle; those from [`Workload::cycles`] on were counted, not timed.
    pub cycle: u32,
    /// Which server, as an index into [`Report::servers`].
    pub server: usize,
    /// Echoes within the measured part of the window.
    pub requests: u64,
    /// How long that part was.
    pub elapsed_ns: u64,
    /// The server's CPU time in it.
    pub cpu_ns: u64,
    /// The server's system calls in it, in counted cycles.
    pub syscalls: Option<u64>,
    /// Median latency.
    pub p50_ns: u64,
    /// The latency that one request of a hundred exceeds.
    pub p99_ns: u64,
    /// The latency that one request of a thousand exceeds.
    pub p999_ns: u64,
}

impl Sample {
    pub(crate) fn of(cycle: u32, server: usize, window: &Window) -> Sample {
        Sample {
            cycle,
            server,
            requests: window.requests,
            elapsed_ns: window.elapsed_ns,
            cpu_ns: window.cpu_ns,
            syscalls: window.syscalls,
            p50_ns: window.latency_ns.value_at_quantile(0.5),
            p99_ns: window.latency_ns.value_at_quantile(0.99),
            p999_ns: window.latency_ns.value_at_quantile(0.999),
        }
    }

    /// CPU nanoseconds per request.
    pub fn cpu_ns_per_request(&self) -> f64 {
        self.cpu_ns as f64 / self.requests as f64
    }
}

/// The samples of one workload.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where and when.
    pub host: Host,
    /// What was asked.
    pub workload: Workload,
    /// The servers' names.
    pub servers: Vec<String>,
    /// In the order in which they were taken.
    pub samples: Vec<Sample>,
    /// Why system calls were not counted, if they were not.
    pub uncounted: Option<String>,
}

impl Report {
    /// The server's figure over the baseline's in the same cycle, over all timed cycles.
    ///
    /// A figure below 1 is better than the baseline if less is better.
    pub fn ratio(&self, server: usize, baseline: usize, figure: impl Fn(&Sample) -> f64) -> Spread {
        let ratios: Vec<f64> = self
            .timed(server)
            .zip(self.timed(baseline))
            .map(|(sample, base)| figure(sample) / figure(base))
            .collect();
        Spread::of(&ratios, self.workload.seed)
    }

    /// The median over the timed cycles.
    pub fn median(&self, server: usize, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.timed(server).map(figure))
    }

    /// System calls per request over the counted cycles.
    pub fn syscalls_per_request(&self, server: usize) -> Option<f64> {
        let counted = self.samples.iter().filter(|sample| sample.server == server);
        let counted = counted.filter_map(|sample| Some((sample.syscalls?, sample.requests)));
        let (calls, requests) = counted.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (requests > 0).then(|| calls as f64 / requests as f64)
    }

    /// The summary as text: ratios to the servers called `baselines`, whose first one, or else the
    /// first server, has quartiles too and is what tails are compared with.
    pub fn table(&self, baselines: &[impl AsRef<str>]) -> String {
        let place = |name: &str| self.servers.iter().position(|server| server == name);
        let names = baselines.iter().map(AsRef::as_ref);
        let mut bases: Vec<usize> = names.filter_map(place).collect();
        if bases.is_empty() {
            bases.push(0);
        }
        let names: Vec<&str> = bases
            .iter()
            .map(|&base| self.servers.get(base).map_or("nothing", String::as_str))
            .collect();
        let mut rows = vec![heading(&names)];
        rows.extend((0..self.servers.len()).map(|server| self.row(server, &bases)));
        let Workload {
            connections,
            message_bytes,
            cycles,
            window,
            discard,
            ..
        } = self.workload;
        let what = match self.workload.request {
            Request::Echo => format!("echo of {message_bytes} B on {connections} connections"),
            Request::Connection => {
                format!("connections with an answer of {message_bytes} B, {connections} at a time")
            }
        };
        let mut text = format!(
            "{}# {what}; {cycles} cycles of {window:?}, the first {discard:?} of each discarded\n",
            self.host
        );
        if let Some(reason) = &self.uncounted {
            text += &format!("# system calls: n/a ({reason})\n");
        }
        text + &render(&rows)
    }

    fn row(&self, server: usize, bases: &[usize]) -> Vec<String> {
        let tail = self.ratio(server, bases[0], |sample| sample.p99_ns as f64);
        let micros = |figure: fn(&Sample) -> u64| {
            format!(
                "{:.1}",
                self.median(server, |sample| figure(sample) as f64) / 1_000.0
            )
        };
        let rate = |sample: &Sample| sample.requests as f64 * 1e9 / sample.elapsed_ns as f64;
        let mut row = vec![self.servers[server].clone()];
        for (at, &base) in bases.iter().enumerate() {
            let cpu = self.ratio(server, base, Sample::cpu_ns_per_request);
            row.push(format!("{:.3}", cpu.median));
            if at == 0 {
                row.push(format!(
                    "{:.3}-{:.3}",
                    cpu.lower_quartile, cpu.upper_quartile
                ));
            }
            row.push(format!("{:.3}-{:.3}", cpu.low, cpu.high));
        }
        row.extend([
            format!("{:.0}", self.median(server, Sample::cpu_ns_per_request)),
            format!("{:.0}", self.median(server, rate)),
            micros(|sample| sample.p50_ns),
            micros(|sample| sample.p99_ns),
            micros(|sample| sample.p999_ns),
            format!("{:.2}", tail.median),
            self.syscalls_per_request(server)
                .map_or("n/a".into(), |calls| format!("{calls:.2}")),
        ]);
        row
    }

    /// Writes every sample as a line of comma-separated values, after a commented header.
    ///
    /// # Errors
    ///
    /// What `to` answers.
    pub fn write_csv(&self, to: &mut impl Write) -> io::Result<()> {
        write!(to, "{}", self.host)?;
        writeln!(
            to,
            "connections,message_bytes,cycle,server,requests,elapsed_ns,cpu_ns,syscalls,p50_ns,\
             p99_ns,p999_ns"
        )?;
        let Workload {
            connections,
            message_bytes,
            ..
        } = self.workload;
        for sample in &self.samples {
            let syscalls = sample
                .syscalls
                .map_or(String::new(), |count| count.to_string());
            writeln!(
                to,
                "{connections},{message_bytes},{},{},{},{},{},{syscalls},{},{},{}",
                sample.cycle,
                self.servers[sample.server],
                sample.requests,
                sample.elapsed_ns,
                sample.cpu_ns,
                sample.p50_ns,
                sample.p99_ns,
                sample.p999_ns,
            )?;
        }
        Ok(())
    }

    // Cycle order: every cycle has one sample of each server, whatever the order within it.
    fn timed(&self, server: usize) -> impl Iterator<Item = &Sample> {
        let cycles = self.workload.cycles;
        self.samples
            .iter()
            .filter(move |sample| sample.server == server && sample.cycle < cycles)
    }
}

fn heading(baselines: &[&str]) -> Vec<String> {
    let mut heading = vec!["server".to_owned()];
    for (at, baseline) in baselines.iter().enumerate() {
        heading.push(format!("CPU x {baseline}"));
        heading.extend((at == 0).then(|| "quartiles".to_owned()));
        heading.push("95 %".to_owned());
    }
    let rest = [
        "CPU ns/req",
        "req/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "p99 x",
        "syscalls/req",
    ];
    heading.extend(rest.map(str::to_owned));
    heading
}

#[cfg(test)]
mod tests {
    use super::{Host, Report, Sample, Workload};

    fn sample(cycle: u32, server: usize, cpu_ns: u64, syscalls: Option<u64>) -> Sample {
        Sample {
            cycle,
            server,
            requests: 10,
            elapsed_ns: 1_000,
            cpu_ns,
            syscalls,
            p50_ns: 1,
            p99_ns: 2,
            p999_ns: 3,
        }
    }

    fn report() -> Report {
        Report {
            host: Host {
                kernel: "k".into(),
                cpu: "c".into(),
                commit: "m".into(),
                date: "d".into(),
                command: "echo".into(),
            },
            workload: Workload {
                cycles: 3,
                ..Workload::default()
            },
            servers: vec!["a".into(), "b".into()],
            // The machine halves its speed from cycle to cycle, and the order changes.
            samples: vec![
                sample(0, 0, 100, None),
                sample(0, 1, 150, None),
                sample(1, 1, 300, None),
                sample(1, 0, 200, None),
                sample(2, 0, 400, None),
                sample(2, 1, 600, None),
                sample(3, 0, 9_999, Some(20)),
                sample(3, 1, 1, Some(5)),
            ],
            uncounted: None,
        }
    }

    #[test]
    fn a_ratio_is_taken_within_its_cycle() {
        let ratio = report().ratio(1, 0, Sample::cpu_ns_per_request);
        assert_eq!((ratio.median, ratio.low, ratio.high), (1.5, 1.5, 1.5));
    }

    #[test]
    fn a_table_has_a_ratio_to_each_baseline() {
        let table = report().table(&["b", "a", "nobody"]);
        assert!(
            table.contains("CPU x b") && table.contains("CPU x a"),
            "{table}"
        );
        let row = table.lines().last().expect("the row of b");
        assert!(row.starts_with("b ") && row.contains(" 1.000 ") && row.contains(" 1.500 "));
    }

    #[test]
    fn counted_cycles_are_not_timed() {
        let report = report();
        assert_eq!(report.median(0, Sample::cpu_ns_per_request), 20.0);
        assert_eq!(report.syscalls_per_request(0), Some(2.0));
        assert_eq!(report.syscalls_per_request(1), Some(0.5));
    }

    #[test]
    fn raw_samples_leave_uncounted_calls_empty() {
        let mut text = Vec::new();
        report().write_csv(&mut text).expect("a vector takes all");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("\n1,64,0,b,10,1000,150,,1,2,3\n"));
        assert!(text.ends_with("1,64,3,b,10,1000,1,5,1,2,3\n"));
    }
}

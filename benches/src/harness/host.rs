//! Where and when a figure was taken: without this it is not quoted.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The header of a report.
#[derive(Debug, Clone)]
pub struct Host {
    /// Release of the running kernel.
    pub kernel: String,
    /// The processor's name and how many cores are online.
    pub cpu: String,
    /// The commit that the program was built from, with `-dirty` if a source differed from it.
    pub commit: String,
    /// Coordinated universal time.
    pub date: String,
    /// The command, without the folder that the program lies in.
    pub command: String,
}

impl Host {
    /// Asks the machine; what it does not tell is "unknown".
    pub fn here() -> Host {
        Host {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |text| text.trim().to_owned()),
            cpu: cpu(),
            commit: env!("CORING_COMMIT").to_owned(),
            date: output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            command: command(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# kernel {}; cpu {}", self.kernel, self.cpu)?;
        writeln!(f, "# commit {}; {}", self.commit, self.date)?;
        writeln!(f, "# command: {}", self.command)
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(unknown, |(_, name)| name.trim().to_owned());
    let cores = text
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    format!("{model}, {cores} cores")
}

fn output(program: &str, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(unknown, |text| text.trim().to_owned())
}

fn command() -> String {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(program) = words.first_mut() {
        let name = Path::new(program.as_str())
            .file_name()
            .and_then(|name| name.to_str());
        *program = name.unwrap_or("unknown").to_owned();
    }
    words.join(" ")
}

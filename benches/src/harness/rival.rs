//! Cases that a program of `rivals/` does, on its own runtime, as it is told.
//!
//! It says first which it has, as `cases NAME…`. It then answers a line `NAME COUNT` with what that
//! took, as `CPU_NS WALL_NS`, and waits for the next line outside its runtime.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::child::as_server;
use super::compare::Spent;

/// A program that waits for cases to do. Dropping it ends it.
#[derive(Debug)]
pub struct Rival {
    name: String,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    cases: Vec<String>,
}

impl Rival {
    /// Starts `program` on the servers' core. It dies with the thread that calls this.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or does not say which cases it has.
    pub fn start(name: &str, program: &Path) -> io::Result<Rival> {
        let mut command = Command::new(program);
        as_server(&mut command);
        let mut child = command
            .arg("--cases")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipes"));
        };
        let mut rival = Rival {
            name: name.to_owned(),
            child,
            to,
            from: BufReader::new(from),
            cases: Vec::new(),
        };
        let line = rival.line()?;
        let Some(cases) = line.strip_prefix("cases ") else {
            return Err(rival.wrong("cases NAME…", &line));
        };
        rival.cases = cases.split_whitespace().map(str::to_owned).collect();
        Ok(rival)
    }

    /// The name it has in tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has that case.
    pub fn has(&self, case: &str) -> bool {
        self.cases.iter().any(|name| name == case)
    }

    /// Has it perform `operations` of `case`.
    ///
    /// # Errors
    ///
    /// If it ends instead, having said why on standard error.
    pub fn run(&mut self, case: &str, operations: u64) -> io::Result<Spent> {
        writeln!(self.to, "{case} {operations}")?;
        let line = self.line()?;
        let spent = line.trim().split_once(' ').and_then(|(cpu, wall)| {
            Some(Spent {
                cpu_ns: cpu.parse().ok()?,
                wall_ns: wall.parse().ok()?,
            })
        });
        spent.ok_or_else(|| self.wrong("CPU_NS WALL_NS", &line))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        Ok(line)
    }

    fn wrong(&self, expected: &str, line: &str) -> io::Error {
        io::Error::other(format!(
            "{}: expected `{expected}`, not {line:?}",
            self.name
        ))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

//! The fuzz targets without cargo-fuzz: on what is in `fuzz/corpus`, and on that changed at random.
//!
//! `CORING_FUZZ_SECONDS=n` goes on for so long with each target, `CORING_FUZZ_SEED=n` begins with
//! that one. `ci/fuzz.sh` has both, and cargo-fuzz where it is installed. An input that fails is
//! written into the temporary directory, and belongs into the corpus once the fault is mended.

#![cfg(not(miri))]

#[path = "fuzzing/codecs.rs"]
mod codecs;
mod common;
#[path = "../examples/kv/resp.rs"]
#[allow(dead_code, reason = "it writes replies as well")]
mod resp;
#[path = "../examples/kv/resp_check.rs"]
mod resp_check;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, SystemTime};

use common::skip;

/// Inputs of each target where no time is given.
const INPUTS: u64 = 2_000;

/// No input is longer: what is found with more is found with less.
const BYTES_MAX: usize = 4_096;

fn number_from(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[expect(clippy::disallowed_methods, reason = "outside of any runtime")]
fn clock() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let path = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(path)
        .expect("there is a corpus")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort(); // The same inputs on each machine.
    let read = |path| std::fs::read(path).expect("a file");
    files.into_iter().map(read).collect()
}

/// Another input, made of one or two that there are.
fn changed(corpus: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = corpus[random.usize(..corpus.len())].clone();
    for _ in 0..random.usize(1..8) {
        let at = random.usize(..=input.len());
        let some = random.usize(..=(input.len() - at).min(32));
        match random.u8(..6) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            1 if at < input.len() => input[at] = random.u8(..),
            2 => input.insert(at, *b"\r\n*$0ab"[..].choose(random)),
            3 => drop(input.drain(at..at + some)),
            4 => {
                let part = input[at..at + some].to_vec();
                input.splice(at..at, part);
            }
            _ => {
                let other = &corpus[random.usize(..corpus.len())];
                let from = random.usize(..=other.len());
                input.truncate(at);
                input.extend(&other[from..]);
            }
        }
    }
    input.truncate(BYTES_MAX);
    input
}

trait Choose {
    fn choose(&self, random: &mut fastrand::Rng) -> &u8;
}

impl Choose for [u8] {
    fn choose(&self, random: &mut fastrand::Rng) -> &u8 {
        &self[random.usize(..self.len())]
    }
}

fn fuzz(target: &str, check: impl Fn(&[u8])) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty());
    let try_it = |input: &[u8], which: String| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(input))) {
            let file = std::env::temp_dir().join(format!("coring-fuzz-{target}"));
            let written = std::fs::write(&file, input);
            eprintln!(
                "{target}, {which}: the input is in {} ({written:?})",
                file.display()
            );
            resume_unwind(panic);
        }
    };
    for (i, input) in corpus.iter().enumerate() {
        try_it(input, format!("file {i} of the corpus"));
    }
    let (begin, end) = (clock(), number_from("CORING_FUZZ_SECONDS"));
    let first = number_from("CORING_FUZZ_SEED").unwrap_or(0);
    let mut seed = first;
    let goes_on = |tried: u64| match end {
        Some(seconds) => clock() - begin < Duration::from_secs(seconds),
        None => tried < INPUTS,
    };
    while goes_on(seed - first) {
        let input = changed(&corpus, &mut fastrand::Rng::with_seed(seed));
        try_it(&input, format!("CORING_FUZZ_SEED={seed}"));
        seed += 1;
    }
    eprintln!(
        "{target}: {} files, {} changed inputs",
        corpus.len(),
        seed - first
    );
}

#[test]
fn readers_give_what_the_model_gives() {
    if coring::Runner::builder().build().is_err() {
        return skip("readers_give_what_the_model_gives", "there is no io_uring");
    }
    fuzz("codecs", codecs::check);
}

#[test]
fn commands_are_the_same_however_they_arrive() {
    fuzz("resp", |input| {
        // As the fuzz target has it: where to cut, and the bytes.
        let cut = input.len() - input.len() / 3;
        drop(resp_check::check(input, cut));
    });
}

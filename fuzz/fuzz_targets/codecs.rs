//! The readers of coring's streams: what a model gives, however the bytes arrive.

#![no_main]

#[path = "../../tests/fuzzing/codecs.rs"]
mod codecs;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| codecs::check(input));

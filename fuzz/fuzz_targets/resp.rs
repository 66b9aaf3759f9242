//! The parser of the example kv: the same commands however the bytes arrive.

#![no_main]

#[path = "../../examples/kv/resp.rs"]
#[allow(dead_code, reason = "it writes replies as well")]
mod resp;
#[path = "../../examples/kv/resp_check.rs"]
mod resp_check;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (usize, &[u8])| {
    let (cut, bytes) = input;
    resp_check::check(bytes, cut % (bytes.len() + 1));
});

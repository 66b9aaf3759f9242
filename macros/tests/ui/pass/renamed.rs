//! A program that knows coring by another name, or calls it from a macro.

mod net {
    pub use ::coring as runtime;
}

/// Hides the crate's own name.
mod coring {
    #[crate::net::runtime::main(crate = crate::net::runtime, timers = "kernel", iowait = true)]
    pub async fn by_a_path() -> u32 {
        7
    }
}

macro_rules! program {
    ($name:ident, $coring:path, $entries:literal, $body:block) => {
        #[net::runtime::main(crate = $coring, sq_entries = $entries)]
        async fn $name() -> u32 $body
    };
}
program!(by_a_macro, ::coring, 64, { 8 });

#[net::runtime::main(crate = net::runtime)]
async fn main() -> impl std::process::Termination {
    let threads = [coring::by_a_path, by_a_macro].map(std::thread::spawn);
    assert_eq!(threads.map(|thread| thread.join().unwrap()), [7, 8]);
}

//! The attributes of coring, which re-exports them: `#[coring::main]` and `#[coring::test]`.
//!
//! They write what a program would write itself, and know nothing that
//! `coring::Runner::builder()` does not.

#![doc(test(attr(deny(warnings))))]

mod function;
mod options;

use proc_macro::TokenStream;

/// Makes an `async fn` a plain function that runs it: a program's `main`, mostly.
///
/// ```
/// use std::time::Duration;
///
/// #[coring::main]
/// async fn main() -> std::io::Result<()> {
///     coring::sleep(Duration::from_millis(1)).await?;
///     println!("hello");
///     coring::ok(())
/// }
/// ```
///
/// is short for
///
/// ```
/// # use std::time::Duration;
/// fn main() -> std::io::Result<()> {
///     async fn main() -> std::io::Result<()> {
///         coring::sleep(Duration::from_millis(1)).await?;
///         println!("hello");
///         coring::ok(())
///     }
///     coring::Runner::builder().ctrl_c(true).run(main())
/// }
/// ```
///
/// # Options
///
/// Those of `coring::Builder`, which says what each does:
///
/// | | |
/// |---|---|
/// | `sq_entries = 64`, `cq_entries = 1024` | a number |
/// | `timers = "auto"` | or `"kernel"` or `"heap"` |
/// | `ctrl_c = false` | `true` by default in `main`, `false` in [`test`](macro@test) |
/// | `iowait = true`, `debug = true` | or `false` |
/// | `grace = Duration::from_secs(1)` | an expression |
/// | `crate = my_crate::coring` | where coring is, if not at `::coring` |
///
/// ```
/// use std::time::Duration;
///
/// #[coring::main(sq_entries = 64, timers = "heap", grace = Duration::from_millis(100))]
/// async fn main() {
///     println!("{} tasks", coring::all_tasks().len());
/// }
/// ```
///
/// # Panics
/// The function does as `coring::run` does: if the `async fn` panicked; if a `run` is on the stack
/// already; if the machine offers no driver (`coring::Runner::builder().build()` gives that as an
/// error).
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Attribute::Main, options.into(), item.into()).into()
}

/// Makes an `async fn` a test, which runs on a runner of its own.
///
/// ```
/// #[coring::test]
/// async fn sleeps() -> std::io::Result<()> {
///     coring::sleep(std::time::Duration::from_millis(1)).await
/// }
///
/// #[coring::test(timers = "kernel")]
/// #[should_panic(expected = "seven")]
/// async fn panics() {
///     assert_eq!(coring::create_task(async { 6 }).await, 7, "it should be seven");
/// }
/// # fn main() {}
/// ```
///
/// It adds `#[test]` to what [`main`](macro@main) does, and takes the same options. Other
/// attributes stay; so does what the function returns.
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(function::Attribute::Test, options.into(), item.into()).into()
}

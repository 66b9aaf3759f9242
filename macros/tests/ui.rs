//! What the compiler says where an attribute is wrong; and programs that need the process's main
//! thread, or names of their own.
//!
//! `TRYBUILD=overwrite cargo test -p coring-macros` writes the texts anew.

#[test]
fn ui() {
    let programs = trybuild::TestCases::new();
    programs.pass("tests/ui/pass/*.rs");
    programs.compile_fail("tests/ui/*.rs");
}

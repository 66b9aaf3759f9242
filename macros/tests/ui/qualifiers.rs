#[coring::test]
async unsafe fn not_safe() {}

#[coring::test]
async extern "C" fn foreign() {}

#[coring::main]
async unsafe fn main() {}

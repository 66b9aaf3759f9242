#[coring::main(sq_entries = 64, ctrl_c = true, sq_entries = 64)]
async fn main() {}

#[coring::test(crate = ::coring, crate = coring)]
async fn twice() {}

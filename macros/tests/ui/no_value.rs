#[coring::main(ctrl_c, iowait = true)]
async fn main() {}

#[coring::test(sq_entries(64))]
async fn brackets() {}

#[coring::test(crate)]
async fn keyword() {}

#[coring::test(grace = )]
async fn nothing() {}

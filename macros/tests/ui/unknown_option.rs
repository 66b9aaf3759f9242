#[coring::main(flavor = "current_thread", sq_entries = 64)]
async fn main() {}

#[coring::test(start_paused)]
async fn paused() {}

#[coring::test("heap")]
async fn nameless() {}

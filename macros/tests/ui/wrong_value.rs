// All of them at once.
#[coring::main(
    sq_entries = "64",
    cq_entries = -1,
    timers = Heap,
    ctrl_c = 1,
    iowait = "true",
    grace = 5,
    crate = "coring"
)]
async fn main() {}

#[coring::test(timers = "wheel")]
async fn no_such_timers() {}

#[coring::test(sq_entries = 4_294_967_296)]
async fn too_many() {}

#[coring::test(sq_entries = 64u64)]
async fn of_another_type() {}

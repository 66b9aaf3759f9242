#!/usr/bin/env bash
# What the kernel is asked for, as its own tracepoints see it: a read under `wait_for` is a RECV
# with IO_LINK and a LINK_TIMEOUT behind it, a sleep is a TIMEOUT, and the process waits in
# io_uring_enter alone. Needs root, tracefs and strace.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

trace=/sys/kernel/tracing
program=${CARGO_TARGET_DIR:-target}/release/examples/wait_for
cargo build --quiet --release --example wait_for

if [ "$(id -u)" -ne 0 ]; then
    skip "trace: not root"
    exit 0
fi
[ -d $trace/events ] || mount -t tracefs tracefs $trace 2>/dev/null || true
if [ ! -d $trace/events/io_uring ]; then
    skip "trace: no io_uring events in tracefs"
    exit 0
fi
if ! package strace strace; then
    skip "trace: no strace"
    exit 0
fi

# An instance of its own, so that nobody else's tracing is touched.
instance=$trace/instances/coring-$$
out=$(mktemp -d)
mkdir "$instance"
# A tracefs instance is removed by rmdir, though it is not empty.
trap 'echo 0 >"$instance/tracing_on"; rmdir "$instance"; rm -r "$out"' EXIT
echo 1 >"$instance/events/io_uring/io_uring_submit_req/enable"
echo 1 >"$instance/tracing_on"
echo 1 >"$instance/options/event-fork" # Follows strace to the program, and nobody else.
bash -c 'echo $$ >"$0/set_event_pid"; exec strace -f -c -o "$1" "$2"' \
    "$instance" "$out/calls" "$program" >"$out/printed"
grep -v '^#' "$instance/trace" | sed 's/.*user_data/user_data/' >"$out/events" || true

echo "-- requests, as the tracepoint io_uring_submit_req has them"
cat "$out/events"
echo "-- system calls"
awk 'NR > 2 && $1 != "------" && $NF != "total" { print $NF, $4 }' "$out/calls" | sort | tr '\n' ';'
echo

grep -A1 'opcode RECV, flags 0x4' "$out/events" | grep 'opcode LINK_TIMEOUT' >/dev/null ||
    fail "trace: no RECV with IO_LINK and a LINK_TIMEOUT behind it"
grep -q 'opcode TIMEOUT' "$out/events" || fail "trace: no kernel timeout for a sleep"
# Rust's start-up polls the standard descriptors once, to see that they are open.
awk '$NF != "poll" || $4 > 1' "$out/calls" >"$out/waits"
if grep -qE ' (epoll_wait|epoll_pwait2?|poll|ppoll|select|pselect6|nanosleep|clock_nanosleep)$' "$out/waits"; then
    fail "trace: the process waits somewhere else"
fi
echo "a read under wait_for is a linked pair, a sleep is a TIMEOUT, nothing else waits"

#!/usr/bin/env bash
# Runs every example as its reader would, with a real client or beside a real tool, and looks at
# what it does.
#
#   ci/examples.sh [NAME…]     all of them, or these
#
# To add one: a function `check_NAME` below. An example without one is a failure.
source "$(dirname "$0")/lib.sh"

PLANNED=(say_after wait_for echo cat copy embed doctor structured graceful producer_consumer kv proxy chat udp_echo port_scan hyper)

package python3 python3 || fail "python3, the real client, cannot be installed"

scratch="$(mktemp -d)"
server=
cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT

# example NAME [ARGUMENT…]: as its header says to run it.
example() {
    local name=$1
    shift
    timeout --kill-after=5 120 cargo run --quiet --release --example "$name" -- "$@"
}

# wrong WHAT: the check that runs finds a fault. Shows what the example printed.
wrong() {
    printf '%s\n' "$*"
    if [ -s "$scratch/out" ]; then
        printf '  it printed:\n'
        tail -n 40 "$scratch/out" | sed 's/^/  | /'
    fi
    exit 1
}

# prints PATTERN [TIMES]: the output has a match in so many lines, or more.
prints() {
    local times
    times="$(grep -ciE -- "$1" "$scratch/out" || true)"
    [ "$times" -ge "${2:-1}" ] || wrong "/$1/ is in $times lines, not in ${2:-1}"
}

# Waits until the server says where it listens; sets `address`.
listening() {
    address=
    for _ in $(seq 100); do
        address="$(sed -n 's/^listening on //p' "$scratch/out")"
        [ -z "$address" ] || return 0
        kill -0 "$server" 2>/dev/null || wrong "it ended before it listened"
        sleep 0.1
    done
    wrong "no line 'listening on ADDR' after 10 s"
}

# serving NAME [ARGUMENT…]: the example as a server in the background, with Ctrl-C in force, which a
# shell has its background ignore. Sets `server` and `address`.
serving() {
    local name=$1
    shift
    cargo build --quiet --release --example "$name"
    : >"$scratch/out"
    env --default-signal=INT "${CARGO_TARGET_DIR:-target}/release/examples/$name" "$@" \
        >>"$scratch/out" 2>&1 &
    server=$!
    listening
}

# Waits for the server, which somebody has told to end.
ended() {
    local status=0
    for _ in $(seq 100); do
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$server" 2>/dev/null && wrong "it does not end"
    wait "$server" || status=$?
    server=
    [ "$status" -eq 0 ] || wrong "status $status"
}

# random FILE BYTES
random() {
    head -c "$2" /dev/urandom >"$scratch/$1"
}

# The two classic programs: 1 s and then 2 s one after the other, then both as tasks.
check_say_after() {
    example say_after >"$scratch/out" 2>&1 || wrong "status $?"
    prints started 2
    prints finished 2
    prints hello 2
    prints world 2
    local t
    mapfile -t t < <(grep -oE '[0-9]{2}:[0-9]{2}:[0-9]{2}' "$scratch/out" |
        awk -F: '{print $1 * 3600 + $2 * 60 + $3}')
    [ ${#t[@]} -eq 4 ] || wrong "${#t[@]} times of day, not 4"
    # Whole seconds, so each may be one more; a day may end between.
    local one_by_one=$(((t[1] - t[0] + 86400) % 86400)) tasks=$(((t[3] - t[2] + 86400) % 86400))
    [ "$one_by_one" -ge 3 ] && [ "$one_by_one" -le 4 ] || wrong "one by one took $one_by_one s, not 3"
    [ "$tasks" -ge 2 ] && [ "$tasks" -le 3 ] || wrong "two tasks took $tasks s, not 2"
}

# One job in time, one late, one read on which nothing comes.
check_wait_for() {
    example wait_for >"$scratch/out" 2>&1 || wrong "status $?"
    prints 'done.* after 1\.'
    prints 'timed out, [0-9.]+(µs|ms) late' 2 # Never early: that would be negative.
}

# One of the group's tasks fails: the others clean up before the group ends.
check_structured() {
    example structured >"$scratch/out" 2>&1 || wrong "status $?"
    prints 'parcel [0-9]+ is back' 2
    prints 'body: stopped: true'
    prints 'the van has broken down'
    tail -n 1 "$scratch/out" | grep -q 'the day ended' || wrong "the group did not end last"
}

# Everything that was produced is consumed, and both ends come to their end.
check_producer_consumer() {
    example producer_consumer >"$scratch/out" 2>&1 || wrong "status $?"
    prints 'item [0-9] of producer' 30
    local sums one other all
    sums="$(grep -oE '^consumed: [0-9]+ and [0-9]+ of 30' "$scratch/out" | tr -cd '0-9 ')"
    read -r one other all <<<"$sums"
    [ $((one + other)) -eq "$all" ] || wrong "consumed $one and $other, not $all"
}

# At Ctrl-C a request that is short is answered, one that is long is stopped, a new client refused.
check_graceful() {
    local address
    serving graceful 127.0.0.1:0
    timeout 60 python3 ci/graceful_client.py "$address" "$server" >>"$scratch/out" 2>&1 ||
        wrong "the client found a fault"
    ended
    prints 'no more connections'
    prints 'all requests have ended'
}

# Clients that leave early are answered and no fault; curl's upload comes back; a graceful end.
check_hyper() {
    package curl curl || fail "curl, the real client, cannot be installed"
    serving hyper 127.0.0.1:0
    random body 3000000
    [ "$(curl -sS "http://$address/")" = hello ] || wrong "curl was not greeted"
    curl -sS --data-binary "@$scratch/body" "http://$address/echo" |
        cmp - "$scratch/body" || wrong "the echo is another"
    timeout 60 python3 ci/hyper_client.py "$address" "$server" >>"$scratch/out" 2>&1 ||
        wrong "the client found a fault"
    ended
    prints 'all requests have ended'
    [ "$(wc -l <"$scratch/out")" -eq 3 ] || wrong "it reports what is no error"
}

check_chat() {
    local address
    serving chat 127.0.0.1:0
    timeout 60 python3 - "$address" <<'PYTHON' >>"$scratch/out" 2>&1 || wrong "a client found a fault"
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
def client(name):
    stream = socket.create_connection((host, int(port)), 20)
    stream.sendall(name.encode() + b"\n")
    return stream, stream.makefile("rb")
ann, hears = client("ann")
bob, bob_hears = client("bob")
assert hears.readline() == b"* bob is here\n"
bob.sendall("hëllo\nagain\n".encode())
assert hears.readline() == "bob: hëllo\n".encode()
assert hears.readline() == b"bob: again\n"
mute, _ = client("mute")  # Never reads.
assert hears.readline() == b"* mute is here\n"
for _ in range(3000):
    bob.sendall(b"x" * 1000 + b"\n")
    assert len(hears.readline()) == 1006
bob.sendall(b"y" * 10000 + b"\n")  # Longer than a line may be.
while (line := hears.readline()) != b"* bob has left\n":
    assert line == b"* mute has left\n", line
assert bob_hears.read().endswith(b"* mute is here\n")
print("a chat was had")
PYTHON
    kill -INT "$server"
    ended
    prints 'a chat was had'
    prints 'no more clients'
}

check_udp_echo() {
    local address
    serving udp_echo 127.0.0.1:0
    timeout 60 python3 - "$address" <<'PYTHON' >>"$scratch/out" 2>&1 || wrong "a peer found a fault"
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.settimeout(20)
for n in (0, 1, 100, 1472, 9000, 65507):
    peer.sendto(bytes(i % 251 for i in range(n)), (host, int(port)))
    assert peer.recv(65535) == bytes(i % 251 for i in range(n))
PYTHON
    kill -INT "$server"
    ended
    prints '^6 answered'
}

check_port_scan() {
    timeout 60 python3 - "${CARGO_TARGET_DIR:-target}" <<'PYTHON' >"$scratch/out" 2>&1 || wrong "the scan missed a port"
import socket, subprocess, sys
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
ports = sorted(listener.getsockname()[1] for listener in listeners)
first, last = max(1, ports[0] - 2000), min(65535, ports[-1] + 2000)
scan = ["cargo", "run", "--quiet", "--release", "--example", "port_scan", "--", "127.0.0.1", f"{first}-{last}"]
output = subprocess.run(scan, capture_output=True, text=True, check=True).stdout
print(output)
for port in ports:
    assert f"{port} is open\n" in output, port
PYTHON
    prints 'is open' 3
    prints '[0-9]+ ports in'
}

# Peers on both sides: half-close, resets, idle ones, and Ctrl-C in the middle.
check_proxy() {
    local port address
    port="$(python3 -c '
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
    serving proxy 127.0.0.1:0 "127.0.0.1:$port" 2
    timeout 60 python3 ci/proxy_client.py "$address" "$port" "$server" >>"$scratch/out" 2>&1 ||
        wrong "a peer found a fault"
    ended
    prints '31457280 bytes there, 20971520 back'
    prints 'reset.*after 1 bytes' 2
    prints 'timed out'
    prints 'no more connections'
    prints 'all connections have ended'

    # One whose target is not there.
    if example proxy >"$scratch/out" 2>&1; then
        wrong "status 0 without arguments"
    fi
    prints 'LISTEN TARGET'
}

# With an address: many clients at once, every byte back in order, end of file after end of file.
# Without: the main job of the README.
check_echo() {
    # In place of this shell's child, so that `kill` reaches the server.
    cargo run --quiet --release --example echo -- 127.0.0.1:0 >"$scratch/out" 2>&1 &
    server=$!
    local address
    listening
    timeout 60 python3 ci/echo_client.py "$address" || wrong "the client found a fault"
    kill -0 "$server" 2>/dev/null || wrong "it ended while it served"
    kill -TERM "$server"
    wait "$server" || true
    server=

    # The port of a listener that is in use is an error that says so.
    python3 -c '
import socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
print(s.getsockname()[1], flush=True); time.sleep(30)' >"$scratch/port" &
    server=$!
    sleep 0.5
    if example echo "127.0.0.1:$(cat "$scratch/port")" >"$scratch/out" 2>&1; then
        wrong "it serves on a port that is in use"
    fi
    prints 'in use'
    kill "$server"
    server=
    if example echo nonsense >"$scratch/out" 2>&1; then
        wrong "it serves on the address 'nonsense'"
    fi

    example echo >"$scratch/out" 2>&1 || wrong "status $?"
    local name
    for name in coring tokio mio; do
        prints "$name"
    done
    tail -n 30 "$scratch/out"
}

# Against a real Redis: the same commands to both, and the same words from both.
check_kv() {
    if ! package redis-cli redis-tools || ! command -v redis-check-rdb >/dev/null; then
        skip "kv: redis-cli and Redis cannot be installed"
        return 0
    fi
    local redis="$scratch/redis.sock"
    reference= # Not local: the trap runs behind the function.
    trap 'kill $server $reference 2>/dev/null || true' EXIT
    # The server goes by other names too, and is the one that this name stands for.
    (exec -a redis-server redis-check-rdb --port 0 --unixsocket "$redis" --databases 1 --save '' \
        --appendonly no --dir "$scratch" >"$scratch/redis.log" 2>&1) &
    reference=$!
    local address port
    serving kv 127.0.0.1:0
    port="${address##*:}"
    local tries=100
    until [ "$(redis-cli -s "$redis" ping 2>&1)" = PONG ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || wrong "Redis does not start: $(tail -n 3 "$scratch/redis.log")"
        sleep 0.1
    done

    timeout 60 redis-cli -s "$redis" <ci/kv_commands.txt >"$scratch/theirs" 2>&1 || wrong "redis-cli to Redis"
    timeout 60 redis-cli -p "$port" <ci/kv_commands.txt >"$scratch/ours" 2>&1 || wrong "redis-cli to kv"
    diff "$scratch/theirs" "$scratch/ours" >>"$scratch/out" || wrong "other replies (>) than Redis's (<)"
    [ "$(wc -l <"$scratch/ours")" -ge "$(grep -c . ci/kv_commands.txt)" ] || wrong "replies are missing"
    # What is not the same on purpose.
    redis-cli -p "$port" info >"$scratch/info"
    grep -q '^connected_clients:1' "$scratch/info" || wrong "INFO does not count its client"
    [ "$(redis-cli -p "$port" command count)" -ge 30 ] || wrong "COMMAND COUNT"
    redis-cli -p "$port" command info get | grep -q readonly || wrong "COMMAND INFO"
    [ "$(redis-cli -p "$port" client setinfo lib-name x)" = OK ] || wrong "CLIENT SETINFO"
    redis-cli -p "$port" -3 --no-raw config get save | grep -q '^1# "save"' || wrong "a client that speaks RESP3"

    local pipeline
    for pipeline in 1 16; do
        timeout 60 redis-benchmark -p "$port" -q --csv -n 50000 -r 1000 -P "$pipeline" \
            -t ping,set,get,incr,mset >"$scratch/benchmark" 2>&1 || wrong "redis-benchmark -P $pipeline"
        # A title, PING in two ways, and the others.
        [ "$(grep -cE '^"[^"]+","[0-9.]+"' "$scratch/benchmark")" -eq 6 ] ||
            wrong "redis-benchmark says $(cat "$scratch/benchmark")"
        tail -n +2 "$scratch/benchmark" | cut -d, -f1,2 | sed "s/^/-P $pipeline: /"
    done

    timeout 120 python3 ci/kv_client.py "$address" "$server" "$redis" >>"$scratch/out" 2>&1 ||
        wrong "the client found a fault"
    ended
    prints 'no more connections'
    prints 'all connections have ended'
    kill "$reference"
    wait "$reference" || true
    reference=
}

# Against cat(1).
check_cat() {
    random empty 0
    random one 1
    random page 4096
    random large 5000001
    local files=("$scratch/large" "$scratch/empty" "$scratch/one" "$scratch/page")
    example cat "${files[@]}" >"$scratch/copy" 2>"$scratch/out" || wrong "status $?"
    cat "${files[@]}" | cmp - "$scratch/copy" || wrong "not the same bytes as cat(1)'s"
    example cat "$scratch/large" 2>"$scratch/out" | cmp - "$scratch/large" || wrong "other bytes in a pipe"
    if example cat "$scratch/missing" >"$scratch/out" 2>&1; then
        wrong "status 0 for a file that is missing"
    fi
    prints 'no such file'
    if example cat "$scratch" >"$scratch/out" 2>&1; then
        wrong "status 0 for a directory"
    fi
    prints 'directory'
    if example cat "$scratch/page" 2>"$scratch/out" >/dev/full; then
        wrong "status 0 on a full disk"
    fi
    prints 'no space'
}

# Against cmp(1).
check_copy() {
    local size
    for size in 0 1 65536 20000001; do
        random from "$size"
        example copy "$scratch/from" "$scratch/to" >"$scratch/out" 2>&1 || wrong "status $?"
        cmp "$scratch/from" "$scratch/to" || wrong "the copy of $size bytes differs"
    done
    # What would empty its own source is refused, and leaves the target alone.
    local target
    random from 65536
    cp "$scratch/from" "$scratch/same"
    ln -f "$scratch/from" "$scratch/link"
    for target in from link; do
        if example copy "$scratch/from" "$scratch/$target" >"$scratch/out" 2>&1; then
            wrong "status 0 for a copy onto itself"
        fi
    done
    if example copy "$scratch" "$scratch/from" >"$scratch/out" 2>&1; then
        wrong "status 0 for a directory"
    fi
    cmp "$scratch/from" "$scratch/same" || wrong "a copy that was refused has changed a file"
    example copy "$scratch/from" /dev/null >"$scratch/out" 2>&1 || wrong "no copy to /dev/null"
    if example copy "$scratch/missing" "$scratch/to" >"$scratch/out" 2>&1; then
        wrong "status 0 for a file that is missing"
    fi
    prints 'no such file'
    if example copy "$scratch/from" /dev/full >"$scratch/out" 2>&1; then
        wrong "status 0 on a full disk"
    fi
    prints 'no space'
}

# From a hand-written epoll loop and from inside tokio.
check_embed() {
    example embed >"$scratch/out" 2>&1 || wrong "status $?"
    prints epoll
    prints tokio
}

# Status 0 where a runtime can be had, else not, with the cause.
check_doctor() {
    if example doctor >"$scratch/out" 2>&1; then
        prints io_uring
    else
        prints 'cannot|disabled|forbid|seccomp' # Says why.
        skip "doctor: io_uring cannot be had here"
    fi
    cat "$scratch/out"
    if CORING_DRIVER=none example doctor >"$scratch/out" 2>&1; then
        wrong "status 0 with a driver that there is not"
    fi
    prints none
}

mapfile -t present < <(cargo metadata --no-deps --format-version 1 |
    python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == "coring":
        print(*[t["name"] for t in package["targets"] if "example" in t["kind"]], sep="\n")' |
    grep . || true)
wanted=("$@")
if [ ${#wanted[@]} -eq 0 ]; then
    mapfile -t wanted < <(printf '%s\n' "${PLANNED[@]}" "${present[@]}" | grep . | awk '!seen[$0]++')
fi
if [ ${#present[@]} -gt 0 ]; then
    cargo build --quiet --release --examples
fi

failed=()
passed=0
for name in "${wanted[@]}"; do
    if ! grep -qx "$name" <<<"$(printf '%s\n' "${present[@]}")"; then
        skip "example $name: it does not exist yet"
        continue
    fi
    if ! declare -F "check_$name" >/dev/null; then
        echo "--- example $name: add check_$name to ci/examples.sh"
        failed+=("$name")
        continue
    fi
    echo "--- example $name"
    : >"$scratch/out"
    begin=$SECONDS
    # In a subshell, so that `exit` in a check ends that check alone; its own trap ends its server.
    set +e
    (
        set -e
        trap '[ -z "$server" ] || kill "$server" 2>/dev/null' EXIT
        "check_$name"
    )
    status=$?
    set -e
    if [ "$status" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok $name ($((SECONDS - begin)) s)"
    else
        failed+=("$name")
        echo "FAIL $name"
    fi
done
[ ${#failed[@]} -eq 0 ] || fail "examples: ${failed[*]}"
echo "examples: $passed run with a real client"

"""A client of the example kv: frames of all kinds, whole, in pieces and broken, to it and to a real
Redis, which have to answer the same; then what only a server can get wrong alone.

    python3 ci/kv_client.py 127.0.0.1:6379 PID REDIS_SOCKET
"""

import os
import random
import re
import signal
import socket
import sys
import time

host, _, port = sys.argv[1].rpartition(":")
address, pid, redis = (host, int(port)), int(sys.argv[2]), sys.argv[3]
LINE_MAX = 64 * 1024


def connect(to=address):
    family = socket.AF_INET if to == address else socket.AF_UNIX
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(30)
    s.connect(to)
    if to == address:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def talk(to, pieces):
    """All that the server says until it hangs up, which it does at the end of the pieces."""
    s = connect(to)
    try:
        for piece in pieces:
            s.sendall(piece)
            if len(pieces) > 1:
                time.sleep(0.001)
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # It has hung up before.
    said = b""
    try:
        while part := s.recv(1 << 16):
            said += part
    except ConnectionResetError:
        pass  # A Redis that hangs up does not read to the end.
    s.close()
    return said


def receive(s, n):
    said = b""
    while len(said) < n:
        part = s.recv(n - len(said))
        assert part, f"it hung up after {said!r}"
        said += part
    return said


def ask(s, frame, reply):
    s.sendall(frame)
    said = receive(s, len(reply))
    assert said == reply, f"{frame[:80]!r} gave {said[:80]!r}, not {reply[:80]!r}"


def array(*args):
    parts = [a if isinstance(a, bytes) else a.encode() for a in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in parts)


def masked(said):
    """Without what differs: Redis's version, and the connection's number."""
    return re.sub(rb"(version\r\n)\$\d+\r\n[^\r]*|(id\r\n):\d+", rb"\1\2", said)


def same(frame):
    for pieces in ([frame], [frame[:7], frame[7:40], frame[40:]]):
        ours, theirs = masked(talk(address, pieces)), masked(talk(redis, pieces))
        assert ours == theirs, f"{frame[:300]!r}:\n  kv    {ours[:300]!r}\n  redis {theirs[:300]!r}"


PING = array("PING")
# Each leaves the data as it was, or sets what it looks at.
FRAMES = [
    PING * 3 + b"PING\r\n" + PING,
    b"\r\n \t\r\n*0\r\n*-1\r\nping\n",
    array("SET", b"k\0\r\n\xff", b"\0\xff\r\n") + array("GET", b"k\0\r\n\xff"),
    array("SET", "", "") + array("GET", "") + array("DEL", ""),
    array("SET", "k", b"\xff\xfe") + b"get k\r\n" + array("STRLEN", "k"),
    b"set k \"a\\x00\\xffb\\n\" \r\nget k\r\nset k 'it\\'s' \r\nget k\r\n",
    b'echo a"b c"\t\r\necho a"b" c\r\necho ""\r\n',
    b'PING\r\necho "a\r\nPING\r\n',
    b'PING\r\necho "a"b\r\nPING\r\n',
    b"echo 'a\r\n",
    # What is no command.
    array("foo"),
    array("foo", "a", b"\xff\r\n-b", "c" * 200, "d"),
    array("x" * 200, "y" * 100, "z" * 100, "a"),
    array(b"f\0o\r\no", b"a\0b"),
    array("", "a"),
    # Lengths.
    PING + b"*x\r\n" + PING,
    b"*\r\n",
    b"*01\r\n",
    b"*+1\r\n",
    b"*2147483648\r\n",
    b"*99999999999999999999\r\n",
    PING + b"*1\r\n$x\r\n" + PING,
    b"*1\r\n$\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$18446744073709551615\r\n",
    b"*2\r\n$4\r\nPING\r\n+4\r\n",
    b"*1\r\n\r\n",
    b"*1\r\n\x01\r\n",
    b"*1\r\n\xff\r\n",
    b"*1\r\n$4\r\nPINGXX" + PING,
    # What is waited for, until the end.
    b"*2147483647\r\n" + PING,
    b"*1\r\n$536870912\r\nPING",
    PING + b"*1\r\n$4\r\nPI",
    # Lines without an end.
    PING + b"x" * (LINE_MAX - 1) + b"\r\n" + PING,
    b"x" * (LINE_MAX + 1),
    b"*" + b"1" * (LINE_MAX + 1),
    b"*1\r\n$" + b"1" * (LINE_MAX + 1),
    # The connection.
    array("QUIT") + PING,
    array("HELLO") + array("HELLO", "2", "SETNAME", "me") + array("CLIENT", "GETNAME"),
    array("HELLO", "2", "AUTH", "default", "x", "SETNAME", "you") + array("CLIENT", "GETNAME"),
    array("HELLO", "2", "AUTH", "other", "x"),
    array("HELLO", "2", "SETNAME") + array("HELLO", "x") + array("HELLO", "4"),
    array("HELLO", "2", "FOO", "a") + array("HELLO", "2", "SETNAME", "a b"),
    array("HELLO", "3") + array("GET", "none") + array("CONFIG", "GET", "save") + array("HELLO"),
    array("HELLO", "3") + array("MGET", "none") + array("CLIENT", "GETNAME") + array("HELLO", "2"),
    array("HELLO", "3") + array("SET", "none", "x", "XX") + array("INFO", "none") + b"*x\r\n",
    array("CLIENT", "SETNAME", b"a\xff") + array("CLIENT", "SETNAME", ""),
]
for frame in FRAMES:
    same(frame)

# Frames that are broken at random. No zeros, and no lines of a length that depends on how it is
# read: there Redis takes its buffer for a string of C.
seed = int(time.time())
print(f"seed {seed}")
rng = random.Random(seed)
words = ["GET", "SET", "APPEND", "STRLEN", "INCR", "DEL", "EXISTS", "MGET", "ECHO", "PING", "1", "k"]
for _ in range(300):
    key = f"random{rng.randrange(3)}"
    frame = b"".join(
        rng.choice([array, lambda *a: " ".join(a).encode() + b"\r\n"])(
            rng.choice(words), key, *rng.sample(words, rng.randrange(3))
        )
        for _ in range(rng.randrange(1, 6))
    )
    broken = bytearray(frame)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(broken))
        if rng.random() < 0.3:
            del broken[at]
        else:
            broken[at] = rng.choice(b"*$\r\n '\"\\x019-\xff")
    ours, theirs = talk(address, [bytes(broken)]), talk(redis, [bytes(broken)])
    assert ours == theirs, f"{bytes(broken)!r}:\n  kv    {ours!r}\n  redis {theirs!r}"


def memory():
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) * 1024


# The others are served on whatever somebody sends, and memory grows with what came only.
other = connect()
ask(other, PING, b"+PONG\r\n")
before = memory()
liars = [connect() for _ in range(50)]
for liar in liars:
    liar.sendall(b"*2147483647\r\n$3\r\nGET\r\n$536870912\r\n" + b"x" * 1000)
ask(other, PING, b"+PONG\r\n")
grown = memory() - before
assert grown < 16 << 20, f"50 lies of 512 MiB take {grown} bytes"
# Half a command at the end of a connection is nothing.
for liar in liars:
    liar.close()

# Something large, there and back, in many pieces.
value = random.Random(1).randbytes(40_000_001)
ask(other, array("SET", "large", value), b"+OK\r\n")
ask(other, array("GET", "large"), b"$%d\r\n%s\r\n" % (len(value), value))
ask(other, array("DEL", "large"), b":1\r\n")
grown = memory() - before
assert grown < 32 << 20, f"{grown} bytes more, when a value of 40 MB is gone"

# Many at once.
many = [connect() for _ in range(500)]
for s in many:
    s.sendall(array("INCR", "many") * 10)
for s in many:
    receive(s, 3)
deadline = time.monotonic() + 30
while True:
    other.sendall(array("GET", "many"))
    if other.recv(100) == b"$4\r\n5000\r\n":
        break
    assert time.monotonic() < deadline, "not all were counted"
for s in many:
    s.close()

# What expires and nobody asks for is removed all the same.
for n in range(2000):
    other.sendall(array("SET", f"short{n}", "x", "PX", "100"))
receive(other, 5 * 2000)
deadline = time.monotonic() + 30
while True:
    other.sendall(array("INFO", "keyspace"))
    if b"expires=0" in other.recv(1000):
        break
    assert time.monotonic() < deadline, "keys that have expired are there"
    time.sleep(0.1)

# Ctrl-C ends it, with a client that is silent, and one that does not read what it asked for.
ask(other, array("SET", "large", value[:4_000_000]), b"+OK\r\n")
deaf = connect()
deaf.sendall(array("GET", "large") * 50)
ask(other, PING, b"+PONG\r\n")
os.kill(pid, signal.SIGINT)
assert other.recv(1) == b"", "the silent client hears the end"

"""A client of the example graceful: it interrupts the server in the middle.

    python3 ci/graceful_client.py 127.0.0.1:7000 PID
"""

import os
import signal
import socket
import sys

host, _, port = sys.argv[1].rpartition(":")
address = (host, int(port))


def ask(seconds):
    s = socket.create_connection(address, timeout=30)
    s.sendall(b"%d\n" % seconds)
    return s


def answer(s):
    line = b""
    while not line.endswith(b"\n"):
        part = s.recv(64)
        if not part:
            break
        line += part
    return line


first = ask(0)
assert answer(first) == b"done\n"
short, long = ask(1), ask(3600)
# Both are being worked on: one more that comes after them is answered.
assert answer(ask(0)) == b"done\n"
os.kill(int(sys.argv[2]), signal.SIGINT)
assert answer(short) == b"done\n", "within the grace"
try:
    ask(0)
    sys.exit("a new client was taken")
except OSError:
    pass
assert answer(long) == b"stopped\n", "after the grace"

"""Peers of the example proxy, on both sides of it.

    python3 ci/proxy_client.py 127.0.0.1:PROXY TARGET_PORT PID
"""

import hashlib
import os
import signal
import socket
import struct
import sys
import threading
import time

host, _, port = sys.argv[1].rpartition(":")
proxy = (host, int(port))
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=128)
listener.settimeout(20)


def joined():
    client = socket.create_connection(proxy, timeout=20)
    server, _ = listener.accept()
    server.settimeout(20)
    return client, server


def read_all(s):
    parts = []
    while part := s.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


# A question, its end, and the answer after that end.
client, server = joined()
client.sendall(b"question")
client.shutdown(socket.SHUT_WR)
assert read_all(server) == b"question", "the question, and its end"
server.sendall(b"answer " * 100_000)
server.close()
assert read_all(client) == b"answer " * 100_000, "the answer, and its end"

# Much, both ways at once.
client, server = joined()
there, back = os.urandom(30 << 20), os.urandom(20 << 20)
got = {}


def send(s, data):
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)


threads = [
    threading.Thread(target=send, args=(client, there)),
    threading.Thread(target=send, args=(server, back)),
    threading.Thread(target=lambda: got.update(client=read_all(client))),
    threading.Thread(target=lambda: got.update(server=read_all(server))),
]
for t in threads:
    t.start()
for t in threads:
    t.join()
sha = lambda data: hashlib.sha256(data).hexdigest()
assert sha(got["server"]) == sha(there) and sha(got["client"]) == sha(back), "each byte"

# A reset, from either side, is one on the other.
for turn in range(2):
    client, server = joined()
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    gone, left = (client, server) if turn else (server, client)
    reset(gone)
    try:
        left.recv(1)
        sys.exit("the end of a stream that was reset")
    except ConnectionResetError:
        pass

# Many at once.
pairs = [joined() for _ in range(50)]
for i, (client, server) in enumerate(pairs):
    client.sendall(b"%d" % i)
for i, (client, server) in enumerate(pairs):
    assert server.recv(10) == b"%d" % i
    server.close()
    assert client.recv(10) == b""
    client.close()

# One that is slow lives on, one that is idle does not (two seconds are the limit).
client, server = joined()
for i in range(5):
    time.sleep(0.8)
    client.sendall(b"%d" % i)
    assert server.recv(1) == b"%d" % i
began = time.monotonic()
try:
    assert client.recv(1) == b"", "closed"
except ConnectionResetError:
    pass
assert 1.5 < time.monotonic() - began < 8, "after two seconds"

# Ctrl-C: who is there goes on, who comes is refused.
client, server = joined()
client.sendall(b"x")
assert server.recv(1) == b"x"
os.kill(int(sys.argv[3]), signal.SIGINT)
time.sleep(0.5)
try:
    socket.create_connection(proxy, timeout=5)
    sys.exit("a new client was taken")
except OSError:
    pass
server.sendall(b"last")
server.close()
assert read_all(client) == b"last"
client.close()

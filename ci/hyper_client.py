"""A client of the example hyper: it interrupts the server between requests and in one.

    python3 ci/hyper_client.py 127.0.0.1:8000 PID
"""

import http.client
import os
import signal
import socket
import sys

host, _, port = sys.argv[1].rpartition(":")
address = (host, int(port))
GET = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"


def to_the_end(s):
    return s.makefile("rb").read()


def client():
    return http.client.HTTPConnection(host, int(port), timeout=30)


# Each leaves as soon as it has its answer, or has said all before it reads one.
for _ in range(50):
    with socket.create_connection(address, 30) as s:
        s.sendall(GET)
        assert s.recv(1000).endswith(b"hello\n")
    with socket.create_connection(address, 30) as s:
        s.sendall(GET * 5)
        s.shutdown(socket.SHUT_WR)
        assert to_the_end(s).count(b"HTTP/1.1 200 OK") == 5

keeps_alive = client()
for path, status in [("/", 200), ("/none", 404), ("/", 200)]:
    keeps_alive.request("GET", path)
    response = keeps_alive.getresponse()
    assert (response.status, len(response.read()) > 5) == (status, True)

# An upload that has begun when the server is interrupted is answered.
uploads = client()
uploads.putrequest("POST", "/echo")
uploads.putheader("content-length", "200000")
uploads.endheaders(b"a" * 100000)
answer = uploads.sock.makefile("rb")
assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
os.kill(int(sys.argv[2]), signal.SIGINT)
assert keeps_alive.sock.recv(1) == b"", "closed, as it asks nothing"
uploads.send(b"b" * 100000)
assert answer.read().endswith(b"\r\n\r\n" + b"a" * 100000 + b"b" * 100000)

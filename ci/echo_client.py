"""A client of an echo server: every byte comes back, in order, and the end after the end.

    python3 ci/echo_client.py 127.0.0.1:7000
"""

import os
import socket
import struct
import sys
import threading

host, _, port = sys.argv[1].rpartition(":")
address = (host.strip("[]"), int(port))
faults = []


def connect():
    s = socket.create_connection(address, timeout=20)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def receive(s, n):
    parts = []
    while n > 0:
        part = s.recv(min(n, 1 << 16))
        if not part:
            break
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def ping_pong(sizes, rounds):
    """One message at a time, then half a close."""
    with connect() as s:
        for _ in range(rounds):
            for size in sizes:
                sent = os.urandom(size)
                s.sendall(sent)
                if receive(s, size) != sent:
                    return faults.append(f"{size} bytes came back changed")
        s.shutdown(socket.SHUT_WR)
        if s.recv(1):
            faults.append("bytes after the end")


def stream(total):
    """Writes on while it reads: more is under way than any buffer between holds."""
    sent = os.urandom(total)
    with connect() as s:

        def write():
            s.sendall(sent)
            s.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        came = receive(s, total + 1)
        writer.join()
        if came != sent:
            faults.append(f"of {total} streamed bytes {len(came)} came back, or others")


def reset():
    """Goes away without a word, with bytes under way."""
    s = connect()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.sendall(b"x" * 100_000)
    s.close()


def guarded(f, *args):
    def run():
        try:
            f(*args)
        except Exception as error:  # Reported below: a thread has nobody else to tell.
            faults.append(f"{f.__name__}{args}: {error!r}")

    return threading.Thread(target=run, daemon=True)


threads = [guarded(ping_pong, (1, 64, 1_000, 16_384), 20) for _ in range(50)]
threads += [guarded(stream, total) for total in (1, 65_536, 8_000_000)]
threads += [guarded(reset) for _ in range(10)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(50)
    if thread.is_alive():
        faults.append("a client hangs")
# The server is still there for the next one.
last = guarded(ping_pong, (100_000,), 1)
last.start()
last.join(20)
if last.is_alive():
    faults.append("the client after the others hangs")
for fault in faults[:10]:
    print(fault)
print(f"echo client: {len(threads) + 1} connections, {len(faults)} faults")
sys.exit(bool(faults))

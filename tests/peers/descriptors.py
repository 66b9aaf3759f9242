"""Sends a pipe's end over a Unix socket, and reads a file that is sent to it."""

import os
import socket
import sys

there, here = sys.argv[1:]
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.bind(here)
sock.connect(there)
reader, writer = os.pipe()
socket.send_fds(sock, [b"hello"], [writer])
os.close(writer)
with open(reader, "rb") as pipe:
    sock.send(pipe.read())
message, fds, _, _ = socket.recv_fds(sock, 99, 9)
with open(fds[0], "rb") as file:
    sock.send(message + b": " + file.read())

"""Says hello, marked, and answers each datagram with its length and its mark."""

import socket
import struct
import sys

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
IP_RECVTOS = 13
IPV6_RECVTCLASS, IPV6_TCLASS = 66, 67
if ":" in host:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVTCLASS, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TCLASS, 2)
else:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 2)
sock.connect((host, port))
sock.send(b"hello")
for _ in range(count):
    data, control, _, _ = sock.recvmsg(65_536, 999)
    marks = [value[0] for _, kind, value in control if kind in (socket.IP_TOS, IPV6_TCLASS)]
    sock.send(f"{len(data)} {marks}".encode())

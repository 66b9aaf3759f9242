"""Holds connections open until its input ends.

    python3 tests/peers/holder.py 127.0.0.1:7000 10000
"""

import resource
import socket
import sys

host, _, port = sys.argv[1].rpartition(":")
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = [socket.create_connection((host, int(port))) for _ in range(int(sys.argv[2]))]
sys.stdin.read()

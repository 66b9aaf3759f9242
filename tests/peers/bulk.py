"""Sends and receives many bytes with asyncio, in random bits, and compares hashes.

    bulk.py client HOST:PORT BYTES    connects; the other end echoes
    bulk.py server BYTES              prints its address, echoes, ends with its standard input

The client half-closes after its last byte and reads to the end. The server prints the hash of
what each connection has sent, and the client of what it has sent and received.
"""

import asyncio
import hashlib
import random
import sys

rng = random.Random(7)


async def linger():
    if rng.random() < 0.02:
        await asyncio.sleep(rng.random() * 0.003)


async def send(writer, total):
    digest = hashlib.sha256()
    source = rng.randbytes(3 << 20)
    while total > 0:
        most = rng.choice([1, 100, 10_000, 3 << 20])
        begin = rng.randrange(len(source))
        part = source[begin : begin + min(total, rng.randint(1, most))]
        total -= len(part)
        digest.update(part)
        writer.write(part)
        if rng.random() < 0.5:
            await writer.drain()
        await linger()
    writer.write_eof()
    await writer.drain()
    return digest.hexdigest()


async def receive(reader):
    digest = hashlib.sha256()
    while data := await reader.read(rng.choice([10, 5_000, 1 << 20])):
        digest.update(data)
        await linger()
    return digest.hexdigest()


async def client(addr, total):
    host, port = addr.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    sent, received = await asyncio.gather(send(writer, total), receive(reader))
    writer.close()
    await writer.wait_closed()
    print(sent, received, flush=True)
    # One that is reset in the middle: the other end has to live on.
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(bytes(1 << 20))
    await reader.read(10)
    writer.transport.abort()


async def echo(reader, writer):
    digest = hashlib.sha256()
    try:
        while data := await reader.read(rng.choice([10, 5_000, 1 << 20])):
            digest.update(data)
            writer.write(data)
            await writer.drain()
            await linger()
        writer.close()
        await writer.wait_closed()
        print(digest.hexdigest(), flush=True)
    except ConnectionError:
        print("reset", flush=True)


async def server():
    listening = await asyncio.start_server(echo, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    print(f"{host}:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    listening.close()


if sys.argv[1] == "client":
    asyncio.run(client(sys.argv[2], int(sys.argv[3])))
else:
    asyncio.run(server())

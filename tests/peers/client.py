"""An asyncio client: talks to an echo server at HOST:PORT over many connections at once."""

import asyncio
import sys


async def talk(host, port, number):
    reader, writer = await asyncio.open_connection(host, port)
    for turn in range(20):
        line = f"{number}/{turn} ".encode() * (1 + turn * 7) + b"\n"
        writer.write(line)
        await writer.drain()
        assert await reader.readline() == line
    bulk = bytes(range(256)) * 2000
    writer.write(bulk)
    writer.write_eof()
    assert await reader.readexactly(len(bulk)) == bulk
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def main():
    host, port = sys.argv[1].rsplit(":", 1)
    await asyncio.gather(*(talk(host, int(port), number) for number in range(50)))
    print("done", flush=True)


asyncio.run(main())

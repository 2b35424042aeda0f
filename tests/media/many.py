"""A hundred uploads at once, from another process: `python many.py FOLDER` prints by how many MiB the service grew."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import uvloop

from tests.media.running import serving

COUNT, SIZE, PIECE = 100, 1_000_000, 100_000


def held() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def send(port: int, paths: list[str]) -> None:
    """Connect for each, and when standard input ends send to all of them in turns."""
    socks = []
    for number, path in enumerate(paths):
        sock = socket.create_connection(("127.0.0.1", port))
        lines = [
            f"PATCH {path} HTTP/1.1", "Host: x", "Tus-Resumable: 1.0.0", f"Authorization: Bearer u{number}",
            "Content-Type: application/offset+octet-stream", "Upload-Offset: 0", f"Content-Length: {SIZE}", "", "",
        ]  # fmt: skip
        sock.sendall("\r\n".join(lines).encode())
        socks.append(sock)
    print("ready", flush=True)
    sys.stdin.read()
    for _ in range(SIZE // PIECE):
        for sock in socks:
            sock.sendall(bytes(PIECE))
    for sock in socks:
        assert b" 204 " in sock.recv(1000)
        sock.close()


async def main(folder: Path) -> int:
    """How much the service grew, MiB."""
    async with serving(folder) as service:
        people = [service.person(f"u{number}") for number in range(COUNT)]
        paths = [await each.begin(SIZE) for each in people]
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, str(service.port), *paths,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdout.readline()
        before = most = held()
        process.stdin.close()
        ended = asyncio.ensure_future(process.wait())
        while not ended.done():
            most = max(most, held())
            await asyncio.sleep(0.005)
        assert await ended == 0
        for each, path in zip(people, paths, strict=True):
            assert (await each.reference(path)).size == SIZE
        return (most - before) >> 20


if __name__ == "__main__":
    if len(sys.argv) > 2:
        send(int(sys.argv[1]), sys.argv[2:])
    else:
        print(uvloop.run(main(Path(sys.argv[1]))))

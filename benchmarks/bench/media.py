"""Row media: files up and down beside nginx, and what messages notice of a hundred uploads at once.

Files lie in memory (/dev/shm), for every contender, and so do the messages beside them: no disk is measured.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ..peers.base import Peer
from ..peers.frames import Imcore
from ..peers.nginx import Nginx
from .durable import FAULTS, blob
from .figures import Sample, at_least, at_most, figure
from .machine import free_port, peak, reset_peak, resident
from .plan import OURS, US, Column, Contender, Plan, RowResult, run_case
from .programs import WORK
from .running import Failed, Load, Server, number, string, talk

__all__ = ["row"]

MEMORY = Path("/dev/shm")
ONE = 10
"""Files of a run, one after another or all at once."""
TEXTS_A_SECOND = 200
PAIRS = 10
PHONE = 3_000_000
"""Bytes a second of one of many uploads: 24 Mbit/s. Faster ones would measure what waits in the loopback's queue."""
SHARED = "imcore, on the gateway's address"
THROUGHPUT = [
    Column("mb_per_s", "MB a second"),
    Column("cpu_ms_per_mb", "server CPU a MB, ms", 1, 3),
]
MESSAGES = [
    Column("p50_us", "p50, ms", US, 2),
    Column("p99_us", "p99, ms", US, 2),
    Column("faults", "faults"),
    Column("mb_per_s", "MB a second"),
    Column("grown_mib", "memory grown, MiB", 1, 1),
]


@contextmanager
def _place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="imcore-bench-", dir=MEMORY if MEMORY.is_dir() else WORK))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _source(folder: Path, size: int) -> Path:
    path = folder / "source"
    piece = os.urandom(1_000_000)
    with path.open("wb") as file:
        for _ in range(size // len(piece)):
            file.write(piece)
    return path


def _ask(port: int, method: str, path: str, user: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers={"Authorization": f"Bearer {user}", "Tus-Resumable": "1.0.0", **said})
    answer = connection.getresponse()
    if answer.status // 100 != 2:
        raise Failed(f"{method} {path}: {answer.status} {answer.read().decode(errors='replace')}")
    return answer


def _head(method: str, path: str, user: str, *more: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", f"Authorization: Bearer {user}", *more, "", ""]
    return string("\r\n".join(lines).encode())


def _uploads(port: int, count: int, size: int) -> bytes:
    """Transfer's heads for so many uploads, each of a user of its own."""
    heads = []
    for i in range(count):
        answer = _ask(port, "POST", "/im/media/uploads", f"m{i}", Upload_Length=str(size))
        heads.append(
            _head(
                "PATCH", answer.headers["Location"], f"m{i}", "Tus-Resumable: 1.0.0", "Upload-Offset: 0",
                "Content-Type: application/offset+octet-stream", f"Content-Length: {size}",
            )
        )  # fmt: skip
    return number(count) + b"".join(heads)


def _downloads(port: int, count: int, source: Path) -> bytes:
    """Transfer's heads for so many downloads of one file, which is uploaded first."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    size = source.stat().st_size
    path = _ask(port, "POST", "/im/media/uploads", "m", Upload_Length=str(size)).headers["Location"]
    headers = {
        "Authorization": "Bearer m", "Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Length": str(size),
        "Content-Type": "application/offset+octet-stream",
    }  # fmt: skip
    with source.open("rb") as file:
        connection.request("PATCH", path, body=file, headers=headers)
        connection.getresponse().read()
    reference = json.loads(_ask(port, "GET", path, "m").read())
    link = f"/im/media/files/{reference['id']}/link"
    link = json.loads(_ask(port, "POST", link, "m", Media_Key=reference["key"]).read())["link"]
    _ask(port, "HEAD", link, "m").read()  # it is looked at before it is served for the first time
    return number(count) + _head("GET", link, "m") * count


def _transfer(peer: Peer, way: str, flight: int, size: int, *, own: bool = True) -> Sample:
    """A sample of `ONE` files, `flight` at once. own: on a listener of media's own. Raises `Failed`."""
    with _place() as folder:
        source = _source(folder, size)
        if isinstance(peer, Nginx):
            peer = Nginx(folder)
            server, port = Server(peer, "apart"), 0
        else:
            port = free_port() if own else 0
            listen = f'[[media.listen]]\naddress = "127.0.0.1:{port}"\n' if own else ""
            server = Server(Imcore(settings=f'[media]\nfolder = "{folder}/media"\n{listen}'), "apart")
        with server:
            port = port or server.port
            if isinstance(peer, Nginx):
                heads = [
                    _head("PUT", f"/up{i}", "m", f"Content-Length: {size}")
                    if way == "put"
                    else _head("GET", "/source", "m")
                    for i in range(ONE)
                ]
                data = number(ONE) + b"".join(heads)
            else:
                data = _uploads(port, ONE, size) if way == "put" else _downloads(port, ONE, source)
            with Load("transfer", way, "127.0.0.1", port, flight, source, 0) as load:
                found = talk(load, data, server)
            return {**found, "cpu_ms_per_mb": found["cpu_s"] * 1e9 / found["bytes"]}


def _talking(uploads: int, size: int, seconds: float) -> Sample:
    """Messages at a steady rate, with so many uploads at once beside them or none. Raises `Failed`."""
    with _place() as folder:
        source = _source(folder, size)
        media = free_port()
        settings = f'[media]\nfolder = "{folder}/media"\n[[media.listen]]\naddress = "127.0.0.1:{media}"\n'
        with Server(Imcore(settings=settings), "apart", folder) as server:
            data = _uploads(media, uploads, size) if uploads else b""
            before = resident(server.pid)
            reset_peak(server.pid)
            told: dict[str, Any] = {}
            with Load("p2p", "frames", "127.0.0.1", server.port, PAIRS, seconds, 1, TEXTS_A_SECOND) as load:
                found = _beside(load, data, server, told, media, max(uploads, 1), source)
            return {
                "p50_us": found["p50_us"],
                "p99_us": found["p99_us"],
                "faults": float(sum(found[name] for name in FAULTS)),
                "grown_mib": (peak(server.pid) - before) / 2**20,
                "mb_per_s": told.get("mb_per_s", 0.0),
            }


def _beside(
    load: Load, uploads: bytes, server: Server, told: dict[str, Any], port: int, flight: int, source: Path
) -> dict[str, Any]:
    """Talk with p2p while transfer is at work."""
    if not uploads:
        return talk(load, blob(Imcore(), PAIRS), server)
    with Load("transfer", "put", "127.0.0.1", port, flight, source, PHONE) as transfer:
        # What loads the server shares a core with what measures: it gives way there.
        os.setpriority(os.PRIO_PROCESS, transfer.process.pid, 10)

        def work() -> None:
            transfer.tell(uploads)
            line = transfer.hear()
            while not line.startswith("{"):
                line = transfer.hear()
            told.update(json.loads(line))

        worker = threading.Thread(target=work)
        worker.start()
        found = talk(load, blob(Imcore(), PAIRS), server)
        worker.join()
    return found


def row(plan: Plan) -> RowResult:
    """Row media."""
    peers = plan.able([Nginx()])
    size, uploads = plan.sizes.file, plan.sizes.uploads
    cases = []
    verdicts = []
    for way, name in (("get", "downloads"), ("put", "uploads")):
        for flight in (1, ONE):
            contenders: list[Contender] = [(OURS, partial(_transfer, Imcore(), way, flight, size))]
            contenders.append((SHARED, partial(_transfer, Imcore(), way, flight, size, own=False)))
            contenders += [(peer.name, partial(_transfer, peer, way, flight, size)) for peer in peers]
            case = run_case(plan, f"{name} of {size // 10**6} MB, {flight} at once", contenders, THROUGHPUT, "mb_per_s")
            cases.append(case)
            verdicts.append(at_least(f"{case.name}: MB a second ÷ nginx", 0.8, case.ratio("nginx", "mb_per_s")))
    seconds = plan.sizes.media_s
    busy = f"{uploads} uploads of {size // 10**6} MB at once"
    texts: list[Contender] = [
        ("imcore, nothing else", partial(_talking, 0, size, seconds)),
        (f"imcore, {busy}", partial(_talking, uploads, size, seconds)),
    ]
    case = run_case(plan, f"{TEXTS_A_SECOND} durable messages a second", texts, MESSAGES)
    cases.append(case)
    verdicts.append(
        at_most(f"messages' p99 beside {busy} ÷ without", 1.5, case.ratio(texts[0][0], "p99_us", texts[1][0]))
    )
    grown = [each["grown_mib"] for each in case.samples[texts[1][0]] if each is not None]
    verdicts.append(at_most(f"memory grown by {busy}, MiB", 64, figure(grown)))
    notes = [
        "imcore hashes (SHA-256) and syncs each upload before it answers, and finishes it under another name; nginx "
        "writes it to a temporary file and renames that. Every file goes over a connection of its own.",
        f"Uploads beside messages go to the same process, on one core with everything else, each with {PHONE // 10**6} "
        "MB a second. What sends them shares its core with what measures the messages, at a lower priority.",
    ]
    return RowResult("media", "files beside nginx, and beside messages", cases, verdicts, notes)

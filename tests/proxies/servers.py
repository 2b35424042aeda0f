"""Real proxies from Debian, each with a configuration of its own in a temporary folder, on a free port."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.others import ENVIRONMENT
from tests.proxies import setups

__all__ = ["ALONE", "FORWARD", "PAIRS", "REVERSE", "Kind", "needs", "serving"]

START_S = 20.0

Setup = Callable[[Path, int, int], tuple[str, list[str]]]
"""From a folder, the port to listen on and the gateway's: the configuration's text, and the command that runs it in the
foreground. The configuration is in the folder's `conf`."""


@dataclass(frozen=True)
class Kind:
    """One proxy with one configuration. forward: the client asks it by name; else it stands in front of the gateway."""

    name: str
    package: str
    setup: Setup
    forward: bool = False

    def __str__(self) -> str:
        return self.name


def _program(package: str) -> str:
    names = {"apache2-bin": "apache2", "tinyproxy-bin": "tinyproxy", "varnish": "varnishd"}
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    return shutil.which(names.get(package, package), path=path) or ""


def needs(*kinds: Kind) -> None:
    """Skip where one of them is not installed; in CI that is a failure."""
    missing = sorted({kind.package for kind in kinds if not _program(kind.package)})
    if missing:
        pytest.skip(f"it takes real proxies: apt-get install {' '.join(missing)}")


def _squid(lines: str) -> Setup:
    def setup(folder: Path, port: int, target: int) -> tuple[str, list[str]]:
        rules = f"{lines.format(port=port, target=target)}\nhttp_access allow all"
        return setups.squid(folder, f"imcore{port}", rules, "" if os.getuid() == 0 else getpass.getuser())

    return setup


def _tinyproxy(lines: str) -> Setup:
    return lambda folder, port, target: setups.tinyproxy(folder, "127.0.0.1", port, lines.format(target=target))


def _nginx(lines: str) -> Setup:
    return lambda folder, port, target: setups.nginx(folder, f"127.0.0.1:{port}", f"127.0.0.1:{target}", lines)


def _haproxy(lines: str) -> Setup:
    return lambda folder, port, target: setups.haproxy(folder, f"127.0.0.1:{port}", f"127.0.0.1:{target}", lines)


def _apache(modules: str, lines: str) -> Setup:
    def setup(folder: Path, port: int, target: int) -> tuple[str, list[str]]:
        loads = "\n".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
            for name in ["mpm_event", "authz_core", "proxy", *modules.split()]
        )
        text = f"""
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/pid
ErrorLog {folder}/log
DefaultRuntimeDir {folder}
Mutex posixsem
{loads}
{lines.format(target=target)}
"""
        return text, ["-D", "FOREGROUND", "-f", f"{folder}/conf"]

    return setup


def _varnish(folder: Path, port: int, target: int) -> tuple[str, list[str]]:
    text = f'vcl 4.1;\nbackend gateway {{ .host = "127.0.0.1"; .port = "{target}"; }}\n'
    return text, [
        "-F", "-j", "none", "-n", f"{folder}/work", "-a", f"127.0.0.1:{port}", "-f", f"{folder}/conf",
        "-s", "malloc,16m", "-T", "none", "-p", "thread_pool_min=10", "-p", "thread_pools=1",
    ]  # fmt: skip


REVERSE = [
    Kind("nginx", "nginx", _nginx("")),
    Kind(
        "nginx, streaming",
        "nginx",
        _nginx(
            "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off; proxy_request_buffering off;"
        ),
    ),
    Kind("nginx, deaf", "nginx", _nginx("proxy_ignore_headers X-Accel-Buffering;")),
    Kind("haproxy", "haproxy", _haproxy("")),
    Kind("haproxy, http-no-delay", "haproxy", _haproxy("option http-no-delay")),
    Kind("apache", "apache2-bin", _apache("proxy_http", "ProxyPass / http://127.0.0.1:{target}/")),
    Kind("varnish", "varnish", _varnish),
    Kind(
        "squid, in front",
        "squid",
        _squid(
            "http_port 127.0.0.1:{port} accel defaultsite=localhost no-vhost\n"
            "cache_peer 127.0.0.1 parent {target} 0 no-query originserver\nnever_direct allow all"
        ),
    ),
    Kind(
        "tinyproxy, in front",
        "tinyproxy-bin",
        _tinyproxy('ReversePath "/" "http://127.0.0.1:{target}/"\nReverseOnly Yes'),
    ),
]
"""Those that stand in front of the gateway, and are taken for it."""

FORWARD = [
    Kind("squid", "squid", _squid("http_port 127.0.0.1:{port}"), forward=True),
    Kind("tinyproxy", "tinyproxy-bin", _tinyproxy(""), forward=True),
    Kind("tinyproxy, with a login", "tinyproxy-bin", _tinyproxy("BasicAuth user secret"), forward=True),
    Kind(
        "apache, forward",
        "apache2-bin",
        _apache(
            "proxy_http proxy_connect",
            "ProxyRequests On\nAllowCONNECT 1-65535\n<Proxy *>\nRequire all granted\n</Proxy>",
        ),
        forward=True,
    ),
]
"""Those that a client is told of."""

ALONE = [*REVERSE, *FORWARD]
PAIRS = [
    (REVERSE[0], REVERSE[1]),  # the first does not hear that it is not to hold back
    (REVERSE[3], REVERSE[3]),  # twice as late
    (REVERSE[6], REVERSE[7]),
    (FORWARD[0], REVERSE[7]),
    (FORWARD[1], REVERSE[3]),
    (FORWARD[3], REVERSE[0]),
]
"""One of each sort; `make proxies` has all of them."""


@asynccontextmanager
async def serving(kind: Kind, folder: Path, target: int) -> AsyncIterator[int]:
    """Run one in front of `target`, a port of this machine; gives its own port. A forward one goes wherever it is asked
    to."""
    needs(kind)
    port, arguments = _prepare(kind, folder, target)
    with (folder / "said").open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            _program(kind.package), *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True, env=ENVIRONMENT,
        )  # fmt: skip
    try:
        await _listening(process, port, kind, folder)
        yield port
    finally:
        await _end(process)
        _sweep(port)


def _prepare(kind: Kind, folder: Path, target: int) -> tuple[int, list[str]]:
    """A free port, and the command's arguments, which name the configuration that is written here."""
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    text, arguments = kind.setup(folder, port, target)
    (folder / "conf").write_text(text)
    return port, arguments


def _sweep(port: int) -> None:
    """What squid leaves in shared memory."""
    for left in Path("/dev/shm").glob(f"imcore{port}-*"):
        left.unlink()


async def _end(process: asyncio.subprocess.Process) -> None:
    """It and its children: they are a session of their own."""
    for how, patience_s in ((signal.SIGINT, 0.3), (signal.SIGKILL, 5.0)):  # squid does not end by itself
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await process.wait()


async def _listening(process: asyncio.subprocess.Process, port: int, kind: Kind, folder: Path) -> None:
    """Wait until it accepts."""
    try:
        async with asyncio.timeout(START_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    if process.returncode is not None:
                        break
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return
    except TimeoutError:
        pass
    logs = [path.read_text(errors="replace") for path in (folder / "said", folder / "log") if path.exists()]
    raise AssertionError(f"{kind} does not listen (exit status {process.returncode}):\n" + "\n".join(logs))

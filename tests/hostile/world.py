"""What a case happens in: the network, who serves behind it, and strangers on the way."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable
from pathlib import Path

from imcore.cli.certificate import self_signed

from .network import CARRIER, Network

__all__ = ["World"]

START_S = 20.0


class World(Network):
    """serve: starts what serves, and returns its processes. dns: what the carrier's name server says to whatever name,
    "" = that there is none, None = nothing at all; and after how long, seconds."""

    def __init__(
        self, folder: Path, serve: Callable[[World], list[subprocess.Popen[str]]], dns: str | None, dns_delay_s: float
    ) -> None:
        super().__init__(folder)
        self._serve = serve
        self._dns = dns
        self._dns_delay_s = dns_delay_s
        self._servers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> World:
        super().__enter__()
        try:
            self._furnish()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _furnish(self) -> None:
        for host in (self.phone, self.carrier):
            host.settings.mkdir(parents=True)
            names = f"nameserver {CARRIER['wifi']}\nnameserver {CARRIER['mobile']}\n"
            (host.settings / "resolv.conf").write_text(names)
        if self._dns is not None:
            self.stranger("dns", "0.0.0.0", self._dns, str(self._dns_delay_s))
        tls, _ = self_signed(self.folder, "im.test")
        os.rename(tls.certificate, self.folder / "gateway.pem")
        os.rename(tls.key, self.folder / "gateway.key")
        self.serve()

    def serve(self) -> None:
        """With what it left, if it was there before."""
        self._servers = self._serve(self)
        _await(self._servers[0])

    def kill(self) -> None:
        """Without a word."""
        for server in self._servers:
            server.kill()
            server.wait(START_S)

    def stranger(self, *words: str) -> None:
        """One of `strangers`, at the carrier."""
        _await(self.python(self.carrier, "strangers", *words))


def _await(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], START_S)[0]:
        raise RuntimeError(f"{process.args!r}: expected READY, and {START_S:.0f} s went by: see its log")
    if not (said := process.stdout.readline()).startswith("READY"):
        raise RuntimeError(f"{process.args!r}: expected READY, got {said!r}: see its log")

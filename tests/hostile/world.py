"""What a case happens in: the network, who serves behind it, and strangers on the way."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from imcore.cli.certificate import self_signed

from .namespaces import Host
from .network import CARRIER, GATEWAYS, Network

__all__ = ["NAME", "World", "ready"]

NAME = "im.test"
"""What every phone knows."""
START_S = 20.0

Machine = list[subprocess.Popen[str]]
"""What serves on one machine, and dies with it."""


class World(Network):
    """serve: starts what serves on the machine of this number, with what it left if it was there before. dns: what the
    carrier's name server says to whatever name, "" = that there is none, None = nothing at all; and after how long,
    seconds."""

    def __init__(
        self, folder: Path, serve: Callable[[World, int], Machine], several: bool, dns: str | None, dns_delay_s: float
    ) -> None:
        super().__init__(folder, several)
        self._serve = serve
        self._dns = dns
        self._dns_delay_s = dns_delay_s
        self._machines: dict[int, Machine] = {}

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
        tls, _ = self_signed(self.folder, NAME, *GATEWAYS)
        os.rename(tls.certificate, self.folder / "gateway.pem")
        os.rename(tls.key, self.folder / "gateway.key")
        for owner in ("gateways", "stranger"):
            key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (self.folder / f"{owner}.pem").write_bytes(key)
        for number in range(len(self.gateways)):
            self.serve(number)

    def serve(self, number: int = 0) -> None:
        """On this machine, with what it left, if it was there before."""
        self._machines[number] = self._serve(self, number)

    def kill(self, number: int = 0) -> None:
        """Without a word."""
        for process in self._machines[number]:
            process.kill()
            process.wait(START_S)

    def drain(self, number: int = 0) -> None:
        """It is told to go, and takes its time."""
        for process in self._machines[number]:
            process.send_signal(signal.SIGTERM)

    def stranger(self, *words: str) -> None:
        """One of `strangers`, at the carrier."""
        ready(self.python(self.carrier, "strangers", *words))

    def impostor(self) -> None:
        """At the carrier: a gateway of somebody else's."""
        own = ["--key", "stranger.pem", "--data", "stranger", "--told", "stranger-news"]
        ready(self.python(self.carrier, "node", str(self.folder), *own))

    @property
    def gateway(self) -> Host:
        """The only one, or the first."""
        return self.gateways[0]


def ready(process: subprocess.Popen[str]) -> None:
    """Wait until it says so."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], START_S)[0]:
        raise RuntimeError(f"{process.args!r}: expected READY, and {START_S:.0f} s went by: see its log")
    if not (said := process.stdout.readline()).startswith("READY"):
        raise RuntimeError(f"{process.args!r}: expected READY, got {said!r}: see its log")

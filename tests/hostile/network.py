"""A phone, its network, and the gateways' machines, each a host of its own:

    phone ──(air: wifi 10.1.0.0/24)──┐
      └─────(air: mobile 10.2.0.0/24)┴── carrier ──(cable)── street ──┬── gateway 10.9.0.2
                                                                     ├── gateway 10.9.0.3
                                                                     ├── gateway 10.9.0.4
                                                                     └── back, which no phone can reach: 10.9.0.9
The phone reaches the world through its carrier, which filters, rewrites and forgets as a case wants. Where one gateway
is enough, it has all three addresses, and there is neither street nor back.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from .air import Link
from .namespaces import Host, bridge, cable

__all__ = ["BACK", "CARRIER", "GATEWAYS", "PHONE", "Network"]

REPOSITORY = Path(__file__).parents[2]
GATEWAYS = ["10.9.0.2", "10.9.0.3", "10.9.0.4"]
BACK = "10.9.0.9"
CARRIER = {"wifi": "10.1.0.1", "mobile": "10.2.0.1"}
PHONE = {"wifi": "10.1.0.2", "mobile": "10.2.0.2"}


class Network:
    """`with Network(folder) as network: …`; folder: for what its programs write. several: gateways on machines of their
    own."""

    air: dict[str, Link]

    def __init__(self, folder: Path, several: bool) -> None:
        self.folder = folder
        self.phone, self.carrier = Host("phone"), Host("carrier")
        self.gateways = [Host("gateway") for _ in (GATEWAYS if several else GATEWAYS[:1])]
        self.street = Host("street") if several else None
        self.back = Host("back") if several else None
        self.air = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for host in (self.phone, self.carrier, *self.gateways, self.street, self.back):
                if host is not None:
                    stack.enter_context(host)
            for name in CARRIER:
                ends = f"{PHONE[name]}/24", f"{CARRIER[name]}/24"
                self.air[name] = Link(self.phone, self.carrier, name, ends)
                stack.callback(self.air[name].close)
            self._lay_the_street()
            self.carrier.route()
            self.be_on("wifi")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _lay_the_street(self) -> None:
        if self.street is None:
            _, device = cable(self.carrier, self.gateways[0], ("10.9.0.1/24", f"{GATEWAYS[0]}/24"))
            for address in GATEWAYS[1:]:
                self.gateways[0].ip("addr", "add", f"{address}/24", "dev", device)
        else:
            ends = [cable(self.carrier, self.street, ("10.9.0.1/24", ""))[1]]
            for host, address in zip([*self.gateways, self.back], [*GATEWAYS, BACK], strict=True):
                assert host is not None
                ends.append(cable(host, self.street, (f"{address}/24", ""))[1])
            bridge(self.street, ends)
        for host in self.gateways:
            host.ip("route", "add", "default", "via", "10.9.0.1")

    def be_on(self, air: str) -> None:
        """The phone uses this one, and the other one is off, as far as anybody can tell."""
        for name, link in self.air.items():
            link.change(dead=name != air)
        self.phone.ip("route", "replace", "default", "via", CARRIER[air])

    def python(
        self, host: Host, module: str, *words: str, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """A program of the lab in a host, with pipes; what it says to standard error goes to a file."""
        with open(self.folder / f"{module.rpartition('.')[2]}.log", "a", encoding="utf-8") as log:
            return host.start(
                sys.executable, "-m", f"tests.hostile.{module}", *words,
                env=env, log=log, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
            )  # fmt: skip

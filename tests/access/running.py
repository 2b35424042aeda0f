"""A node with the role `access`, and a client that comes from wherever it likes: the node believes 127.0.0.1 to be a
proxy of its own, so that callers of three carriers can be told apart on one machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import msgspec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from imcore import Node, config
from imcore.access_list import AccessList, Direction, Measured, Report, key_id, open_list

SECRET = "a secret that is long enough for HS256"

SETTINGS = """
[node]
name = "gw-1"
roles = ["downlink", "uplink", "service", "access"]
[[listen]]
address = "127.0.0.1:0"
[auth]
mode = "jwt"
keys = ["a secret that is long enough for HS256"]
[limits]
drain_s = 0.2
[access]
proxies = ["127.0.0.1"]
[[access.names]]
name = "im.example.com"
[[access.networks]]
prefixes = ["10.1.0.0/16"]
carrier = "telecom"
[[access.networks]]
prefixes = ["10.2.0.0/16"]
carrier = "unicom"
[[access.points]]
name = "t"
addresses = ["192.0.2.1", "2001:db8::1"]
ways = ["tls:443", "http:80"]
carrier = "telecom"
[[access.points]]
name = "u"
addresses = ["192.0.2.2"]
ways = ["tls:443"]
carrier = "unicom"
[[access.points]]
name = "m"
addresses = ["192.0.2.3", "2001:db8::3"]
ways = ["tls:443", "tcp:8080"]
carrier = "*"
nodes = ["gw-1"]
"""


class Running:
    """What a test reaches for."""

    def __init__(self, node: Node, session: aiohttp.ClientSession) -> None:
        self.node = node
        self.session = session
        self.url = f"http://{node.addresses[0]}"
        key = load_pem_private_key((Path(node.config.node.data) / "node.pem").read_bytes(), None).public_key()
        self.keys: Any = {key_id(key): key}  # type: ignore[arg-type]  # it is of Ed25519

    async def get(self, path: str, by: str = "10.1.0.1", **headers: str) -> tuple[int, bytes]:
        """Status and body; the caller's exit address is `by`."""
        async with self.session.get(self.url + path, headers={"X-Forwarded-For": by, **headers}) as answer:
            return answer.status, await answer.read()

    async def points(self, by: str = "10.1.0.1", role: Direction = "down") -> AccessList:
        """The list for a caller from there, verified."""
        status, body = await self.get(f"/v1/access?role={role}", by)
        assert status == 200, body
        return open_list(body, self.keys, role, 0)

    async def order(self, by: str = "10.1.0.1", role: Direction = "down") -> str:
        """The names in their order."""
        return " ".join(point.name for point in (await self.points(by, role)).points)

    async def post(self, body: Any, by: str = "10.1.0.1", **headers: str) -> tuple[int, bytes]:
        """A report, in JSON or as it is."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"X-Forwarded-For": by, "Content-Type": "application/json", **headers}
        async with self.session.post(f"{self.url}/v1/report", data=data, headers=headers) as answer:
            return answer.status, await answer.read()


def token(user: str) -> str:
    """For the header `Authorization`."""
    return "Bearer " + jwt.encode({"sub": user, "exp": 4_000_000_000}, SECRET, "HS256")


def report(point: str, took: int | None, device: str = "phone", role: Direction = "down") -> Report:
    """One attempt by TLS on port 443."""
    outcome = "OK" if took is not None else "SILENT"
    return Report(device, role, [Measured(point, 443, "tls", outcome, whole_ms=took)])


@asynccontextmanager
async def serving(data: Path, settings: str = SETTINGS) -> AsyncIterator[Running]:
    """A node with these settings, in that folder."""
    made = config.parse(settings, folder=data)
    async with Node(made, data=data) as node, aiohttp.ClientSession() as session:
        yield Running(node, session)

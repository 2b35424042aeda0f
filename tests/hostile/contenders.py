"""Who is tried on the networks of the lab: imcore, and what others use, each set up as its manual advises."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from .case import Case
from .phone import Phone
from .world import World

__all__ = ["CONTENDERS", "OURS", "Contender", "install"]

NAME = "im.test"
REPOSITORY = Path(__file__).parents[2]


class Contender(Protocol):
    """name: as the table has it."""

    name: str

    def serve(self, world: World) -> list[subprocess.Popen[str]]:
        """Start what serves, with what it left; returns what is killed with it."""

    def phone(self, world: World, points: list[str], every_s: float, env: Mapping[str, str]) -> Phone:
        """Start what talks. points: where imcore may look; the others know one name."""


class Imcore:
    """A client that was built with a name and three addresses."""

    name = "imcore"

    def serve(self, world: World) -> list[subprocess.Popen[str]]:
        return [world.python(world.gateway, "node", str(world.folder))]

    def phone(self, world: World, points: list[str], every_s: float, env: Mapping[str, str]) -> Phone:
        return self._phone("phone", world, points, every_s, env)

    def alone(self, world: World, case: Case, env: Mapping[str, str]) -> Phone:
        """Somebody else's, who knows only the best open way, and is told no news."""
        return self._phone("somebody else", world, [case.open_way], case.every_s, env)

    @staticmethod
    def _phone(user: str, world: World, points: list[str], every_s: float, env: Mapping[str, str]) -> Phone:
        folder = world.folder / f"phone{time.monotonic_ns()}"
        folder.mkdir()
        files = {name: str(folder / name) for name in ("state", "outbox")}
        options: dict[str, Any] = {"points": points, "token": user, "device": "phone", "every_s": every_s, **files}
        options["authority"] = str(world.folder / "gateway.pem")
        options["keys"] = [_public(world.folder / "data" / "node.pem")]
        return Phone(world.python(world.phone, "device", json.dumps(options), env=env))


class Mqtt:
    """mosquitto, which keeps sessions and their messages over a restart, and paho; QoS 1, the port of MQTT."""

    name = "MQTT"

    def serve(self, world: World) -> list[subprocess.Popen[str]]:
        conf = world.folder / "mosquitto.conf"
        conf.write_text(
            f"listener 1883 0.0.0.0\nallow_anonymous true\npersistence true\npersistence_location {world.folder}/\n"
            "autosave_on_changes true\nautosave_interval 1\nmax_queued_messages 0\nuser root\n"
        )
        with open(world.folder / "mosquitto.log", "a", encoding="utf-8") as log:
            broker = world.gateway.start("/usr/sbin/mosquitto", "-c", str(conf), log=log)
        time.sleep(0.5)
        return [world.python(world.gateway, "peers.mqtt", "service", str(world.folder / "news")), broker]

    def phone(self, world: World, points: list[str], every_s: float, env: Mapping[str, str]) -> Phone:
        return Phone(world.python(world.phone, "peers.mqtt", "device", NAME, str(every_s), env=env))


class SocketIo:
    """The server from npm, which recovers the state of connections, and the client from PyPI; port 80."""

    name = "Socket.IO"

    def serve(self, world: World) -> list[subprocess.Popen[str]]:
        script = str(REPOSITORY / "tests" / "hostile" / "peers" / "socketio.js")
        with open(world.folder / "socketio.log", "a", encoding="utf-8") as log:
            env = {"NODE_PATH": str(modules())}
            return [
                world.gateway.start(
                    "node", script, str(world.folder / "news"), env=env, log=log, stdout=subprocess.PIPE, text=True
                )
            ]

    def phone(self, world: World, points: list[str], every_s: float, env: Mapping[str, str]) -> Phone:
        return Phone(world.python(world.phone, "peers.socketio", NAME, str(every_s), env=env))


class WebSocket:
    """The library `websockets` at both ends; port 80."""

    name = "WebSocket"

    def serve(self, world: World) -> list[subprocess.Popen[str]]:
        return [world.python(world.gateway, "peers.bare", "serve", str(world.folder / "news"))]

    def phone(self, world: World, points: list[str], every_s: float, env: Mapping[str, str]) -> Phone:
        return Phone(world.python(world.phone, "peers.bare", "device", NAME, str(every_s), env=env))


def _public(path: Path) -> str:
    """What the phone was built with: the key that the gateway proves itself by, in PEM."""
    key = load_pem_private_key(path.read_bytes(), None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


OURS = Imcore()
CONTENDERS: list[Contender] = [OURS, Mqtt(), SocketIo(), WebSocket()]


def modules() -> Path:
    """Where npm's packages are."""
    return REPOSITORY / "build" / "npm" / "node_modules"


def install() -> None:
    """What the others need from npm, into the build folder."""
    if (modules() / "socket.io").is_dir():
        return
    folder = modules().parent
    folder.mkdir(parents=True, exist_ok=True)
    words = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), "socket.io@4.8"]
    subprocess.run(words, check=True)

"""Who is tried on the networks of the lab: imcore, and what others use, each set up as its manual advises."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from . import programs
from .case import POINTS, Case
from .middleboxes import listening
from .namespaces import Host
from .network import BACK, GATEWAYS
from .node import REDIS_PORT
from .phone import Phone
from .world import NAME, World, ready

__all__ = ["CONTENDERS", "OURS", "Contender", "install"]

REPOSITORY = Path(__file__).parents[2]


class Contender(Protocol):
    """name: as the table has it."""

    name: str

    def serve(self, world: World, number: int) -> list[subprocess.Popen[str]]:
        """Start what serves on this machine, with what it left; returns what is killed with it."""

    def phone(self, world: World, case: Case, env: Mapping[str, str]) -> Phone:
        """Start what talks."""


class Imcore:
    """A client that was built with a name and three addresses; where there are several gateways, they share a Redis."""

    name = "imcore"

    def serve(self, world: World, number: int) -> list[subprocess.Popen[str]]:
        if world.back is None:
            gateway = world.python(world.gateway, "node", str(world.folder))
        else:
            if not world.back.busy:
                self._back(world, world.back)
            words = [str(world.folder), "--several", f"gateway{number + 1}"]
            gateway = world.python(world.gateways[number], "node", *words)
        ready(gateway)
        return [gateway]

    @staticmethod
    def _back(world: World, back: Host) -> None:
        """What all gateways share: Redis, and the business."""
        listening(
            back, world.folder, "redis-server", (BACK, REDIS_PORT),
            "--bind", BACK, "--port", str(REDIS_PORT), "--protected-mode", "no", "--dir", str(world.folder),
            "--save", "", "--appendonly", "yes",
        )  # fmt: skip
        ready(world.python(back, "node", str(world.folder), "--business"))

    def phone(self, world: World, case: Case, env: Mapping[str, str]) -> Phone:
        return self._phone("phone", world, env, points=POINTS, crowd=case.crowd, nat_s=case.nat_s, **_talk(case))

    def alone(self, world: World, case: Case, env: Mapping[str, str]) -> Phone:
        """Somebody else's, who knows only the best open way, and is told no news."""
        return self._phone("somebody else", world, env, points=[case.open_way], **_talk(case))

    @staticmethod
    def _phone(user: str, world: World, env: Mapping[str, str], **options: Any) -> Phone:
        folder = world.folder / f"phone{time.monotonic_ns()}"
        folder.mkdir()
        options |= {"token": user, "folder": str(folder), "authority": str(world.folder / "gateway.pem")}
        options["keys"] = [_public(world.folder / "gateways.pem")]
        return Phone(world.python(world.phone, "device", json.dumps(options), env=env))


class Mqtt:
    """mosquitto, which keeps sessions and their messages over a restart, and paho; QoS 1, the port of MQTT."""

    name = "MQTT"

    def serve(self, world: World, number: int) -> list[subprocess.Popen[str]]:
        conf = world.folder / "mosquitto.conf"
        conf.write_text(
            f"listener 1883 0.0.0.0\nallow_anonymous true\npersistence true\npersistence_location {world.folder}/\n"
            "autosave_on_changes true\nautosave_interval 1\nmax_queued_messages 0\nuser root\n"
        )
        broker = listening(world.gateway, world.folder, "mosquitto", (GATEWAYS[0], 1883), "-c", str(conf))
        service = world.python(world.gateway, "peers.mqtt", "service", str(world.folder / "news"))
        ready(service)
        return [service, broker]

    def phone(self, world: World, case: Case, env: Mapping[str, str]) -> Phone:
        return Phone(world.python(world.phone, "peers.mqtt", "device", NAME, json.dumps(_talk(case)), env=env))


class SocketIo:
    """The server from npm, which recovers the state of connections, and the client from PyPI; port 80."""

    name = "Socket.IO"

    def serve(self, world: World, number: int) -> list[subprocess.Popen[str]]:
        script = str(REPOSITORY / "tests" / "hostile" / "peers" / "socketio.js")
        with open(world.folder / "socketio.log", "a", encoding="utf-8") as log:
            server = world.gateway.start(
                "node", script, str(world.folder / "news"),
                env={"NODE_PATH": str(modules())}, log=log, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        ready(server)
        return [server]

    def phone(self, world: World, case: Case, env: Mapping[str, str]) -> Phone:
        return Phone(world.python(world.phone, "peers.socketio", NAME, json.dumps(_talk(case)), env=env))


class WebSocket:
    """The library `websockets` at both ends; port 80."""

    name = "WebSocket"

    def serve(self, world: World, number: int) -> list[subprocess.Popen[str]]:
        server = world.python(world.gateway, "peers.bare", "serve", str(world.folder / "news"))
        ready(server)
        return [server]

    def phone(self, world: World, case: Case, env: Mapping[str, str]) -> Phone:
        return Phone(world.python(world.phone, "peers.bare", "device", NAME, json.dumps(_talk(case)), env=env))


def _talk(case: Case) -> dict[str, Any]:
    """How the phone talks (`talk.Talk`)."""
    return {"every_s": case.every_s, "size": case.size, "at_once": case.at_once}


def _public(path: Path) -> str:
    """What the phone was built with: the key that the gateway proves itself by, in PEM."""
    key = load_pem_private_key(path.read_bytes(), None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


OURS = Imcore()
CONTENDERS: list[Contender] = [OURS, Mqtt(), SocketIo(), WebSocket()]


def modules() -> Path:
    """Where npm's packages are."""
    return REPOSITORY / "build" / "npm" / "node_modules"


def install() -> str:
    """What the others need that pip does not bring; "" = it is there, else why not. From Debian, and from npm into the
    build folder, where two runs at a time do not see each other's half."""
    if why := programs.install(["mosquitto", "node", "npm"]):
        return why
    if not (modules() / "socket.io").is_dir():
        modules().parent.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=modules().parent.parent) as folder:
            words = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", folder, "socket.io@4.8"]
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                return f"npm could not install socket.io: {done.stderr.strip()[-200:]}"
            with suppress(OSError):  # another run was faster
                Path(folder).rename(modules().parent)
            Path(folder).mkdir(exist_ok=True)
    return ""

"""The doctor says of each way in whether it passes, and its exit code whether there is one at all."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from imcore.cli import main
from imcore.gateway import identity
from imcore.node import Node
from tests.ways.places import http, place, says


def examine(*args: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code and what was said."""
    code = main(["doctor", *args])
    return code, capsys.readouterr().out


async def with_a_node(data: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """Examine one node by two ways that pass, one that does not, and a portal's address."""
    portals = place(says(http(b"<html>", kind="text/html")))
    async with asyncio.timeout(40), Node(listen=["127.0.0.1:0"], data=data) as node, portals as portal:
        key = base64.b64encode(identity.kept(data).public_key().public_bytes_raw()).decode()
        address = node.addresses[0]
        points = [address, f"http://{address}", f"tls://{address}", portal.authority]
        args = [argument for point in points for argument in ("--point", point)]
        return await asyncio.to_thread(examine, *args, "--key", key, *more, capsys=capsys)


def test_each_way_has_its_outcome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = asyncio.run(with_a_node(tmp_path, capsys, "--json"))
    found: dict[str, Any] = json.loads(said)
    assert code == 0
    assert found["good"]
    outcomes = sorted((way["way"], way["outcome"]) for way in found["ways"])
    assert outcomes[:3] == [("http", "OK"), ("tcp", "OK"), ("tcp", "PORTAL")]
    assert outcomes[3][0] == "tls"
    assert outcomes[3][1] in ("CLOSED", "TLS_BROKEN")
    good = [way for way in found["ways"] if way["outcome"] == "OK"]
    assert all(0 < way["connect_ms"] <= way["first_ms"] <= way["whole_ms"] for way in good)
    assert found["sources"][0]["source"] == "built in"


def test_a_person_gets_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = asyncio.run(with_a_node(tmp_path, capsys))
    assert code == 0
    assert "ways in" in said
    assert "PORTAL" in said


def test_without_a_way_in_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = examine("--point", "127.0.0.1:1", "--json", capsys=capsys)
    assert code == 1
    [way] = json.loads(said)["ways"]
    assert way["outcome"] == "REFUSED"


def test_a_key_that_is_none_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--key", "nonsense"]) == 2
    assert main(["doctor", "--key", "nowhere.pem"]) == 2

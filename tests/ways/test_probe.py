"""A gateway is known by its proof, and whatever else answers is named; over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imcore.cli.certificate import self_signed
from imcore.config import Config, Listen
from imcore.config import Node as NodeConfig
from imcore.errors import WayError
from imcore.gateway import identity
from imcore.node import Node
from imcore.points import Point, parse_point
from imcore.proof import probe_page
from imcore.ways.candidate import Candidate
from imcore.ways.dial import straight
from imcore.ways.fetch import Progress
from imcore.ways.probe import Keys, fill, probe
from tests.ways.places import KEY, KEYS, Asked, Place, gateway, http, place, says


def met(answer: Place, keys: Keys = KEYS) -> str:
    """The outcome's name."""

    async def work() -> str:
        async with asyncio.timeout(20), place(answer) as point:
            try:
                await probe(point, keys, Progress())
            except WayError as error:
                return error.outcome
            return "OK"

    return asyncio.run(work())


def changes(change: bytes, to: bytes, *, longer: int = 0) -> Place:
    """A gateway's true answer, changed on its way."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        page = probe_page("gw", asked.target.partition("n=")[2], KEY)
        writer.write(http(page.replace(change, to) + b"!" * longer))

    return answer


class TestAGateway:
    def test_proves_itself(self) -> None:
        assert met(gateway()) == "OK"

    def test_by_any_of_the_keys(self) -> None:
        assert met(gateway(), [Ed25519PrivateKey.generate().public_key(), *KEYS]) == "OK"

    def test_is_believed_where_there_is_no_key(self) -> None:
        assert met(gateway(), []) == "OK"

    @pytest.mark.parametrize("host", ["bücher.example", "fe80::1%eth0"])
    def test_a_real_one_answers_whatever_its_name(self, tmp_path: Path, host: str) -> None:
        async def work() -> None:
            async with asyncio.timeout(20), Node(listen=["127.0.0.1:0"], data=tmp_path) as there:
                point = Point("tcp", host, parse_point(there.addresses[0]).port)
                proof = await probe(point, [], Progress(), through=straight(Candidate(point, "127.0.0.1")))
                assert proof.node == "imcore"

        asyncio.run(work())

    def test_a_real_one_answers_probe_and_fill(self, tmp_path: Path) -> None:
        async def work() -> None:
            async with asyncio.timeout(20), Node(listen=["127.0.0.1:0"], data=tmp_path) as node:
                keys = [identity.kept(tmp_path).public_key()]
                point = parse_point(node.addresses[0])
                progress = Progress()
                proof = await probe(point, keys, progress)
                assert (proof.node, proof.signed) == ("imcore", True)
                assert progress.connect_s is not None
                assert progress.first_s is not None
                assert progress.whole_s is not None
                assert 0 < progress.connect_s <= progress.first_s <= progress.whole_s
                progress = Progress()
                await fill(point, keys, progress)
                assert progress.received > 32 * 1024

        asyncio.run(work())


class TestAnAnswerToSomethingElse:
    @pytest.mark.parametrize(
        "other", [http(probe_page("gw", "yesterday", KEY)), http(b"an answer of another kind")], ids=["older", "other"]
    )
    def test_is_asked_for_once_more(self, other: bytes) -> None:
        answers = [says(other), gateway()]

        async def in_turn(asked: Asked, writer: asyncio.StreamWriter) -> None:
            await answers.pop(0)(asked, writer)

        assert met(in_turn) == "OK"
        assert not answers


class TestOthers:
    @pytest.mark.parametrize(
        ("answer", "outcome"),
        [
            (gateway(key=Ed25519PrivateKey.generate()), "HIJACK"),
            (says(http(b"<html>Welcome to our hotel", kind="text/html")), "PORTAL"),
            (says(http(b"", "302 Found", fields="Location: http://login.hotel/\r\n")), "PORTAL"),
            (says(http(b"", "511 Network Authentication Required")), "PORTAL"),
            (says(http(b"not found", "404 Not Found")), "HIJACK"),
            (says(http(b"hello")), "HIJACK"),
            (says(b"220 mail.example.com ESMTP\r\n\r\n"), "HIJACK"),
            (says(http(probe_page("gw", "yesterday", KEY))), "CACHED"),
            (says(http(probe_page("gw", "n", KEY), fields="Age: 7\r\n")), "CACHED"),
            (says(http(probe_page("gw", "n", KEY), fields="Content-Encoding: gzip\r\n")), "REWRITTEN"),
            (changes(b"node: gw", b"node: xx"), "HIJACK"),
            (changes(b"signature:", b"Signature:"), "REWRITTEN"),
            (changes(b" " * 32 + b"\n", b"<script></script>" + b" " * 15 + b"\n"), "REWRITTEN"),
            (changes(b"", b"", longer=7), "REWRITTEN"),
            (changes(b" " * 32 + b"\n", b"\n"), "REWRITTEN"),
            (says(http(probe_page("gw", "n", KEY)[:500])), "TRUNCATED"),
            (says(http(probe_page("gw", "n", KEY)[:500], length=1024)), "TRUNCATED"),
            (says(b""), "CLOSED"),
            (says(http(b"", "407 Proxy Authentication Required")), "PROXY_LOGIN"),
        ],
    )
    def test_are_named(self, answer: Place, outcome: str) -> None:
        assert met(answer) == outcome

    def test_nobody_is_a_refusal(self) -> None:
        async def work() -> None:
            with socket.socket() as bound:
                bound.bind(("127.0.0.1", 0))
                with pytest.raises(WayError) as caught:
                    await probe(Point("http", *bound.getsockname()), KEYS, Progress())
            assert caught.value.outcome == "REFUSED"

        asyncio.run(work())

    def test_clear_text_where_tls_was_expected_is_broken_tls(self) -> None:
        closed = asyncio.Event()

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example.com ESMTP\r\n")
            with contextlib.suppress(OSError):
                await reader.read()
            writer.close()
            closed.set()

        async def work() -> None:
            server = await asyncio.start_server(greet, "127.0.0.1", 0)
            async with asyncio.timeout(20), server:
                with pytest.raises(WayError) as caught:
                    await probe(Point("https", *server.sockets[0].getsockname()), KEYS, Progress())
                await closed.wait()
            assert caught.value.outcome == "TLS_BROKEN"

        asyncio.run(work())

    def test_a_certificate_of_nobody_who_is_trusted_is_named(self, tmp_path: Path) -> None:
        files, _ = self_signed(tmp_path)

        async def work() -> None:
            config = Config(
                listen=[Listen(address="127.0.0.1:0", tls=files)], node=NodeConfig(data=str(tmp_path / "data"))
            )
            async with asyncio.timeout(20), Node(config) as node:
                with pytest.raises(WayError) as caught:
                    await probe(parse_point(f"tls://{node.addresses[0]}"), KEYS, Progress())
            assert caught.value.outcome == "TLS_UNTRUSTED"

        asyncio.run(work())


def late(answer: Place, received: int) -> str:
    """What it means to wait no more when so many bytes have come."""

    async def work() -> str:
        async with asyncio.timeout(20), place(answer) as point:
            progress = Progress()
            task = asyncio.create_task(fill(point, KEYS, progress))
            while progress.received < received or progress.connect_s is None:  # noqa: ASYNC110 - each byte that comes tells nobody
                await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            return progress.late.outcome

    return asyncio.run(work())


def test_a_connection_that_freezes_is_named_with_how_far_it_came() -> None:
    assert late(gateway(cut=17_000), 17_000) == "FROZEN_AFTER_17000"


def test_one_on_which_nothing_comes_is_silent() -> None:
    assert late(gateway(cut=0), 0) == "SILENT"

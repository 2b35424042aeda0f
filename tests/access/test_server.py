"""The access service over real HTTP: who gets which list, whose word counts, and what is turned away."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dns.message
import dns.rcode
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from imcore import ConfigError
from imcore.access import server
from imcore.access.own import own_points
from imcore.access.ranking import Ranking
from imcore.access.settings import Point
from imcore.access_list import REPORT_MOST, key_id, open_list
from imcore.bus.ports import Load
from imcore.cli.certificate import self_signed
from tests.access.running import SETTINGS, Running, report, serving, token
from tests.gateway.running import run
from tests.others import ENVIRONMENT

TELECOM, UNICOM, NOBODY = "10.1.0.1", "10.2.0.1", "203.0.113.1"


def served(data: Path, work: Callable[[Running], Awaitable[None]], settings: str = SETTINGS) -> None:
    async def main() -> None:
        async with serving(data, settings) as here:
            await work(here)

    run(main())


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """A list is made anew each second."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - whatever brings it about tells nobody
            await asyncio.sleep(0.1)


@pytest.fixture(autouse=True)
def _nothing_is_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that depends on who asks is for the tests of the ranking."""
    monkeypatch.setattr(Ranking, "_explore", lambda *_: None)


class TestTheList:
    def test_is_signed_and_ordered_for_the_callers_carrier(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            assert (await here.order(TELECOM)).split()[:2] == ["t", "m"]
            assert (await here.order(UNICOM)).split()[:2] == ["u", "m"]
            assert (await here.order(NOBODY)).split()[0] == "m"
            listed = await here.points(TELECOM, "up")
            assert listed.carrier == "telecom"
            assert listed.points[0].addresses == ["192.0.2.1", "2001:db8::1"]
            assert {port.port for port in listed.points[0].ports} == {80, 443}

        served(tmp_path, work)

    def test_is_for_the_connections_own_address_where_nobody_may_speak_for_others(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            assert (await here.order(TELECOM)).split()[0] == "m"

        served(tmp_path, work, SETTINGS.replace('proxies = ["127.0.0.1"]', ""))

    @pytest.mark.parametrize("query", ["", "?role=", "?role=both", "?role=up&role=down", "?ROLE=up", "?role=up%00"])
    def test_needs_a_direction(self, tmp_path: Path, query: str) -> None:
        async def work(here: Running) -> None:
            status, body = await here.get(f"/v1/access{query}")
            assert (status, body) == (400, b"role: expected one of up, down, media, once\n")

        served(tmp_path, work)

    def test_without_points_is_an_answer_that_says_when_to_come_back(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            assert await here.get("/v1/access?role=media") == (503, b"no point for media can be given now\n")

        served(tmp_path, work)

    def test_is_never_stored_on_the_way(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            for path in ("/v1/access?role=up", "/v1/access", "/v1/access?role=media", "/d?dn=x"):
                async with here.session.get(here.url + path) as answer:
                    assert answer.headers["Cache-Control"] == "no-store, no-transform"

        served(tmp_path, work)

    def test_follows_what_the_nodes_report(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            async def gone() -> bool:
                return "m" not in await here.order()

            async def back() -> bool:
                return "m" in await here.order()

            assert await back()
            here.node.bus.loads.report(Load("gw-1", 0, 0.0, 0.0, 0.0, draining=True))
            await eventually(gone)  # the node's own next report, in two seconds, says otherwise
            await eventually(back)

        served(tmp_path, work)

    def test_is_signed_by_a_key_that_the_caller_knows(self, tmp_path: Path) -> None:
        keys = [Ed25519PrivateKey.generate() for _ in range(2)]
        for number, key in enumerate(keys):
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (tmp_path / f"{number}.pem").write_bytes(pem)
        ids = [key_id(key.public_key()) for key in keys]

        async def work(here: Running) -> None:
            for query, by in (("", 0), (f"&kid={quote(ids[1])}", 1), (f"&kid={ids[1]}&kid={ids[0]}", 0)):
                _, signed = await here.get(f"/v1/access?role=up{query}")
                assert open_list(signed, {ids[by]: keys[by].public_key()}, "up", 0).points

        served(tmp_path, work, SETTINGS.replace("[access]", '[access]\nkeys = ["0.pem", "1.pem"]'))

    def test_of_a_node_without_points_has_its_own_addresses(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            [point] = (await here.points()).points
            assert point.name == "gw-1"
            assert f"{point.addresses[0]}:{point.ports[0].port}" == here.node.addresses[0]
            assert sorted(point.ports[0].ways) == ["http", "tcp"]

        served(tmp_path, work, SETTINGS.partition("[[access.points]]")[0])


class TestOwnPoints:
    def test_have_the_ways_of_their_listeners(self) -> None:
        bound = [("192.0.2.1:80", False), ("192.0.2.1:443", True), ("[2001:db8::1]:80", False), ("0.0.0.0:81", False)]
        assert own_points("gw", bound) == [
            Point(name="gw", addresses=["192.0.2.1"], ways=["tcp:80", "http:80", "tls:443", "https:443"], nodes=["gw"]),
            Point(name="gw-2", addresses=["2001:db8::1"], ways=["tcp:80", "http:80"], nodes=["gw"]),
        ]

    def test_that_no_device_could_use_are_named(self, tmp_path: Path) -> None:
        settings = SETTINGS.partition("[[access.points]]")[0].replace("127.0.0.1:0", "0.0.0.0:0")
        with pytest.raises(ConfigError, match=r"access\.points: expected at least one: 0\.0\.0\.0:\d+"):
            served(tmp_path, lambda here: asyncio.sleep(0), settings)


class TestReports:
    def test_change_the_order_for_the_reporters_carrier_and_direction(self, tmp_path: Path) -> None:
        settings = SETTINGS.replace('carrier = "telecom"\n[[access.points]]', 'carrier = "*"\n[[access.points]]')

        async def work(here: Running) -> None:
            sent = {by: (await here.order(by, "up")).split()[0] for by in (f"10.1.0.{n}" for n in range(60))}
            for by, first in sent.items():
                said = report(first, 20 if first == "m" else 300, role="up")
                assert await here.post(said, by, Authorization=token(by)) == (204, b"")

            async def fast_first() -> bool:
                return all([(await here.order(f"10.1.1.{n}", "up")).startswith("m ") for n in range(20)])

            await eventually(fast_first)
            assert {(await here.order(f"10.1.1.{n}")).split()[0] for n in range(40)} == {"m", "t"}  # for down as before

        served(tmp_path, work, settings)

    def test_count_once_and_only_about_the_point_that_the_device_was_sent_to(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            await here.post(report("t", 20), Authorization=token("early"))
            assert (await here.order()).startswith("t ")
            for device, point in (("phone", "t"), ("phone", "t"), ("desk", "t"), ("phone", "nowhere"), ("phone", "m")):
                assert (await here.post(report(point, 20, device), Authorization=token("alice")))[0] == 204
            counters = here.node.access.counters
            assert {name: count for name, count in counters.items() if name.startswith("reports")} == {
                "reports": 2,
                "reports_repeated": 1,
                "reports_about_nothing": 1,
                "reports_unasked": 2,
            }

        served(tmp_path, work)

    def test_without_a_token_have_the_one_voice_of_their_address(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            for by in (TELECOM, "10.1.0.2"):
                assert (await here.order(by)).startswith("t ")
                for device in ("phone", "desk", "other"):
                    await here.post(report("t", 20, device), by)
            assert here.node.access.counters["reports"] == 2

        served(tmp_path, work)

    def test_of_one_user_or_address_are_limited(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            by_user = [(await here.post(report("t", 20), Authorization=token("eve")))[0] for _ in range(15)]
            assert by_user.count(204) <= 11
            assert by_user[-1] == 429
            other = [(await here.post(report("t", 20), "10.1.0.7"))[0] for _ in range(100)]
            assert other.count(204) >= 60
            assert other[-1] == 429
            assert (await here.post(report("t", 20), "10.1.0.8"))[0] == 204

        served(tmp_path, work)

    def test_from_a_forged_address_count_for_the_forger(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            first = (await here.order()).split()[0]
            answers = [(await here.post(report(first, 20), f"10.1.{number}.1"))[0] for number in range(100)]
            assert answers[-1] == 429
            assert here.node.access.counters["reports"] == 1

        served(tmp_path, work, SETTINGS.replace('proxies = ["127.0.0.1"]', ""))

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 400),
            (b"{", 400),
            (b"\xff\xfe", 400),
            (b"[" * 15_000, 400),
            (b'{"x":' * 3000, 400),
            ({"device": "d", "role": "down"}, 400),
            ({"device": "d", "role": "down", "measured": []}, 400),
            ({"device": "d", "role": "both", "measured": [{}]}, 400),
            ({"device": "d" * 65, "role": "down", "measured": [{}]}, 400),
            ({"device": "d", "role": "down", "measured": [{"point": "t"}] * 65}, 400),
            ({"measured": [{"port": 0}]}, 400),
            ({"measured": [{"whole_ms": -1}]}, 400),
            ({"measured": [{"whole_ms": 1e9}]}, 400),
            ({"measured": [{"whole_ms": None}]}, 400),
            ({"measured": [{"connect_ms": 30, "whole_ms": 20}]}, 400),
            ({"measured": [{"whole_ms": 20}], "later": {"keys": "are passed over"}}, 204),
            (b" " * (REPORT_MOST + 1), 413),
            (b"[" * (1 << 20), 413),
        ],
    )
    def test_that_are_none_are_turned_away(self, tmp_path: Path, body: Any, status: int) -> None:
        if isinstance(body, dict) and "role" not in body:
            whole = {"point": "t", "port": 443, "way": "tls", "outcome": "OK"}
            body = {"device": "d", "role": "down", **body, "measured": [{**whole, **each} for each in body["measured"]]}

        async def chunked(data: bytes) -> Any:
            for at in range(0, len(data), 5000):
                yield data[at : at + 5000]

        async def work(here: Running) -> None:
            assert (await here.post(body))[0] == status
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            async with here.session.post(here.url + "/v1/report", data=chunked(data)) as answer:
                assert answer.status == status

        served(tmp_path, work)

    @pytest.mark.parametrize("said", ["Bearer", "Bearer ", "Bearer x.y.z", "Basic YTpi", token("a")[:-2]])
    def test_with_a_token_that_does_not_hold_are_turned_away(self, tmp_path: Path, said: str) -> None:
        async def work(here: Running) -> None:
            status, _ = await here.post(report("t", 20), Authorization=said)
            assert status == 401
            assert here.node.access.counters["reports"] == 0

        served(tmp_path, work)

    def test_outlive_the_process(self, tmp_path: Path) -> None:
        async def tell(here: Running) -> None:
            assert (await here.order()).startswith("t ")
            await here.post(report("t", 20), Authorization=token("alice"))
            assert len(here.node.access.figures) == 6  # of the point and its way, for three kinds of callers

        async def ask(here: Running) -> None:
            assert len(here.node.access.figures) == 6

        served(tmp_path, tell)
        served(tmp_path, ask)

    def test_are_saved_while_the_service_runs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server, "SAVE_S", 0.05)

        async def work(here: Running) -> None:
            assert (await here.order()).startswith("t ")
            await here.post(report("t", 20))

            async def saved() -> bool:
                return not here.node.access.figures.unsaved

            await eventually(saved)

        served(tmp_path, work)


class TestTheDnsFaces:
    async def doh(self, here: Running, query: bytes, **more: str) -> tuple[int, dns.message.Message]:
        headers = {"X-Forwarded-For": TELECOM, "Content-Type": "application/dns-message", **more}
        async with here.session.post(f"{here.url}/dns-query", data=query, headers=headers) as answer:
            return answer.status, dns.message.from_wire(await answer.read())

    def test_answer_by_post_and_get_in_the_lists_order(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            query = dns.message.make_query("im.example.com", "A", id=0)
            status, answer = await self.doh(here, query.to_wire())
            assert status == 200
            assert [record.to_text() for record in answer.answer[0]] == ["192.0.2.1", "192.0.2.3", "192.0.2.2"]
            packed = "AAABAAABAAAAAAAAAmltB2V4YW1wbGUDY29tAAABAAE"
            url = f"{here.url}/dns-query?dns={packed}"
            async with here.session.get(url, headers={"X-Forwarded-For": UNICOM}) as got:
                assert got.content_type == "application/dns-message"
                assert got.headers["Cache-Control"] == "private, max-age=60"
                answer = dns.message.from_wire(await got.read())
            assert [record.to_text() for record in answer.answer[0]] == ["192.0.2.2", "192.0.2.3", "192.0.2.1"]

        served(tmp_path, work)

    def test_are_never_an_open_resolver(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            status, answer = await self.doh(here, dns.message.make_query("example.org", "A").to_wire())
            assert (status, answer.rcode()) == (200, dns.rcode.REFUSED)
            assert (await here.get("/d?dn=example.org"))[0] == 403

        served(tmp_path, work)

    def test_answer_what_is_no_query_and_refuse_what_is_too_long(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            status, answer = await self.doh(here, b"no query")
            assert (status, answer.rcode()) == (200, dns.rcode.FORMERR)
            kind = {"Content-Type": "application/dns-message"}
            async with here.session.post(f"{here.url}/dns-query", data=bytes(4097), headers=kind) as long:
                assert long.status == 413
            async with here.session.post(f"{here.url}/dns-query", data=b"x") as untyped:
                assert untyped.status == 415
            for query in ("", "?dns=", "?dns=a&dns=b", "?dns=a", "?dns=%C3%A9", "?dns=A%3D%3D", f"?dns={'A' * 6000}"):
                assert (await here.get(f"/dns-query{query}"))[0] in (200, 400)

        served(tmp_path, work)

    @pytest.mark.parametrize(
        ("query", "by", "said"),
        [
            ("dn=im.example.com", TELECOM, "192.0.2.1;192.0.2.3;192.0.2.2"),
            ("dn=IM.example.com.", UNICOM, "192.0.2.2;192.0.2.3;192.0.2.1"),
            (f"dn=im.example.com&ip={UNICOM}", TELECOM, "192.0.2.2;192.0.2.3;192.0.2.1"),
            ("dn=im.example.com&type=aaaa", TELECOM, "2001:db8::1;2001:db8::3"),
            ("dn=im.example.com&ip=nonsense", TELECOM, "192.0.2.3"),
        ],
    )
    def test_answer_plain_http(self, tmp_path: Path, query: str, by: str, said: str) -> None:
        async def work(here: Running) -> None:
            status, body = await here.get(f"/d?{query}", by)
            assert status == 200
            assert body.decode().startswith(said)

        served(tmp_path, work)

    def test_answer_plain_http_in_json_too(self, tmp_path: Path) -> None:
        async def work(here: Running) -> None:
            _, body = await here.get("/d?dn=im.example.com&format=json", TELECOM)
            assert json.loads(body) == {
                "name": "im.example.com",
                "type": "A",
                "addresses": ["192.0.2.1", "192.0.2.3", "192.0.2.2"],
                "ttl": 60,
            }
            assert (await here.get("/d?dn=im.example.com&type=MX"))[0] == 400
            assert (await here.get("/d?dn=%C3%A9"))[0] == 403
            assert (await here.get("/d"))[0] == 403

        served(tmp_path, work)

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there: apt-get install curl")
    def test_serve_curl(self, tmp_path: Path) -> None:
        tls, _ = self_signed(tmp_path)
        settings = f"""
            [node]
            roles = ["downlink", "uplink", "access"]
            [[listen]]
            address = "127.0.0.1:0"
            tls = {{ certificate = "{tls.certificate}", key = "{tls.key}" }}
            [[listen]]
            address = "127.0.0.2:0"
            [limits]
            drain_s = 0.2
            [[access.names]]
            name = "im.example.com"
            [[access.points]]
            name = "only"
            addresses = ["127.0.0.2"]
            ways = ["http:80"]
        """

        async def work(here: Running) -> None:
            secure, plain = (address.rpartition(":")[2] for address in here.node.addresses)
            doh = ["--doh-url", f"https://127.0.0.1:{secure}/dns-query", "--doh-insecure"]
            told = ["--silent", "--show-error", "--max-time", "10", "--noproxy", "*", "--write-out", "%{remote_ip}"]

            def curl(host: str) -> subprocess.CompletedProcess[str]:
                line = ["curl", *doh, *told, f"http://{host}:{plain}/"]
                return subprocess.run(line, capture_output=True, text=True, check=False, env=ENVIRONMENT)

            own = await asyncio.to_thread(curl, "im.example.com")
            assert own.stdout.startswith("This is a gateway of instant messaging"), own.stderr
            assert own.stdout.endswith("127.0.0.2")
            foreign = await asyncio.to_thread(curl, "example.org")
            assert foreign.returncode == 6  # could not resolve

        served(tmp_path, work, settings)


def test_nothing_that_comes_is_answered_with_a_fault_of_ours(tmp_path: Path) -> None:
    chance = random.Random(5)
    words = [
        "role",
        "dn",
        "ip",
        "type",
        "dns",
        "kid",
        "up",
        "im.example.com",
        "A",
        "AAAA",
        "::1",
        "%00",
        "%ff%fe",
        "=",
        "&",
    ]
    words += ["format=json", "AAABAAABAAAAAAAAAmlt", "é", "%", "%zz", "x" * 3000]
    hops = ["10.1.0.1", ",", "nonsense", "[::1]:3", "::ffff:1.2.3.4", " ", "%eth0", "fe80::1%x"]

    def some(of: list[str], most: int) -> str:
        return "".join(chance.choice(of) for _ in range(chance.randrange(most)))

    def request() -> bytes:
        method = chance.choice(["GET", "GET", "POST", "POST", "PUT", "HEAD"])
        path = chance.choice(["/v1/access", "/v1/report", "/dns-query", "/d"])
        body = chance.randbytes(chance.randrange(60)) if method in ("POST", "PUT") else b""
        kind = chance.choice(["application/dns-message", "application/json", "x"])
        lines = [
            f"{method} {path}?{some(words, 6)} HTTP/1.1",
            "Host: x",
            f"X-Forwarded-For: {some(hops, 5)}",
            f"Content-Type: {kind}",
            f"Authorization: {chance.choice(['Bearer x', 'Basic', 'Bearer é', ''])}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def work(here: Running) -> None:
        host, _, port = here.node.addresses[0].rpartition(":")
        for _ in range(400):
            asked = request()
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(asked)
            async with asyncio.timeout(10):
                answer = await reader.read()
            writer.close()
            assert answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4", b"HTTP/1.1 503")), (asked, answer)

    served(tmp_path, work)

"""Files in a store of objects, with a real server of S3's interface: what was changed there is never served."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config as BotoConfig

from imcore import Node
from imcore.config import S3, Config, Media
from imcore.errors import ConfigError
from imcore.media.s3 import objects
from imcore.media.store import Store
from tests.media.running import run, serving, sha256

DATA = os.urandom(12_000_000)  # several parts


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until = time.monotonic() + 50
            while True:
                try:
                    urllib.request.urlopen(url + "/moto-api/", timeout=5).close()
                    break
                except OSError:
                    assert time.monotonic() < until
                    assert process.poll() is None
                    time.sleep(0.1)
            bucket(url).create_bucket(Bucket="files")
            yield url
        finally:
            process.kill()


def bucket(url: str) -> boto3.client:
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret",
        config=BotoConfig(retries={"max_attempts": 1}),
    )  # fmt: skip


def store(url: str, name: str = "files") -> Store:
    return objects(name, prefix="media/", endpoint=url, region="us-east-1", access_key="key", secret_key="secret")


class TestObjects:
    def test_what_is_uploaded_comes_back_whole_and_in_ranges(self, tmp_path: Path, endpoint: str) -> None:
        async def work() -> None:
            async with serving(tmp_path, store=store(endpoint)) as service:
                alice = service.person()
                reference = await alice.put(DATA, filename="clip.mp4", filetype="video/mp4")
                assert reference.sha256 == sha256(DATA)
                answer = await alice.get(reference)
                assert answer.body == DATA
                assert answer.headers["Content-Type"] == "video/mp4"
                answer = await alice.get(reference, Range="bytes=5000000-9999999,-5")
                assert DATA[5_000_000:10_000_000] in answer.body
                assert not os.listdir(tmp_path / "uploads")

        run(work())

    def test_it_is_there_for_the_next_process_and_gone_when_deleted(self, tmp_path: Path, endpoint: str) -> None:
        async def work() -> None:
            async with serving(tmp_path, store=store(endpoint)) as service:
                reference = await service.person().put(b"abc")
            async with serving(tmp_path, store=store(endpoint)) as service:
                alice = service.person()
                link = await alice.link(reference)
                assert (await alice.ask("GET", link)).body == b"abc"
                assert (await alice.ask("DELETE", f"/im/media/files/{reference.id}")).status == 204
                assert (await alice.ask("GET", link)).status == 404
            assert reference.id not in str(bucket(endpoint).list_objects_v2(Bucket="files"))

        run(work())

    def test_what_was_changed_behind_our_back_is_never_served(self, tmp_path: Path, endpoint: str) -> None:
        async def work() -> None:
            async with serving(tmp_path, store=store(endpoint)) as service:
                alice = service.person()
                reference = await alice.put(b"abcdef")
                for wrong in (b"abcdeX", b"abc"):
                    bucket(endpoint).put_object(Bucket="files", Key=f"media/{reference.id}", Body=wrong)
                    answer = await alice.get(reference)
                    assert answer.status == 503
                    assert b"abc" not in answer.body
                bucket(endpoint).delete_object(Bucket="files", Key=f"media/{reference.id}")
                assert (await alice.get(reference)).status == 503

        run(work())

    def test_when_it_takes_nothing_the_upload_is_kept(self, tmp_path: Path, endpoint: str) -> None:
        async def work() -> None:
            async with serving(tmp_path, store=store(endpoint, "later")) as service:
                alice = service.person()
                path = await alice.begin(6)
                assert (await alice.append(path, 0, b"abcdef")).status == 503
                assert (await alice.ask("GET", path)).status == 409
                bucket(endpoint).create_bucket(Bucket="later")
                assert await alice.offset(path) == 6
                assert (await alice.get(await alice.reference(path))).body == b"abcdef"

        run(work())

    def test_the_configuration_names_it(self, tmp_path: Path, endpoint: str) -> None:
        s3 = S3(bucket="files", endpoint=endpoint, access_key="key", secret_key="secret")
        node = Node(Config(media=Media(store="s3", s3=s3)), data=tmp_path)
        assert node.media is not None

    def test_a_package_that_is_missing_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "obstore", None)
        with pytest.raises(ConfigError, match=r"imcore\[s3\]"):
            store("http://127.0.0.1:1")

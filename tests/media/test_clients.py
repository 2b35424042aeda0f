"""Other people's tus clients: each uploads 100 MB, is killed half-way, and goes on where it was in another process."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.media.running import Service, run, serving

SIZE = 100 * 1000 * 1000
HALF = 30 * 1000 * 1000
TUSPY = """
import sys
from tusclient import client
from tusclient.storage.filestorage import FileStorage
base, path, state = sys.argv[1:]
me = client.TusClient(base + "/im/media/uploads", headers={"Authorization": "Bearer alice"})
up = me.uploader(
    path, chunk_size=4 << 20, store_url=True, url_storage=FileStorage(state), upload_checksum=True,
    metadata={"filename": "clip.mp4", "filetype": "video/mp4"},
)
print(up.offset, flush=True)
up.upload()
print(up.url.removeprefix(base), flush=True)
"""
TUS_JS = """
const [base, path, state, parts] = process.argv.slice(2);
const fs = require("fs"), tus = require("tus-js-client");
let first = true;
const up = new tus.Upload(fs.createReadStream(path), {
    endpoint: base + "/im/media/uploads", headers: { Authorization: "Bearer alice" }, chunkSize: 8 << 20,
    metadata: { filename: "clip.mp4", filetype: "video/mp4" }, urlStorage: new tus.FileUrlStorage(state),
    parallelUploads: Number(parts), storeFingerprintForResuming: true,
    onProgress: sent => { if (first) { console.log(sent); first = false; } },
    onError: error => { console.error(String(error)); process.exit(1); },
    onSuccess: () => console.log(up.url.replace(base, "")),
});
up.findPreviousUploads().then(found => { if (found.length) up.resumeFromPreviousUpload(found[0]); up.start(); });
"""


def file(folder: Path, size: int) -> Path:
    path = folder / "clip.mp4"
    piece = os.urandom(1_000_000)
    with path.open("wb") as out:
        for number in range(size // len(piece)):
            out.write(number.to_bytes(8) + piece[8:])
    return path


def under_way(service: Service) -> int:
    return sum(each.stat().st_size for each in (service.folder / "uploads").iterdir())


async def start(command: Sequence[str], folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder)


async def killed_and_resumed(service: Service, folder: Path, command: Sequence[str], path: Path) -> None:
    first = await start(command, folder)
    async with asyncio.timeout(50):
        while under_way(service) < HALF:
            assert first.returncode is None, (await first.communicate())[1]
            await asyncio.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    await first.communicate()
    kept = under_way(service)
    assert HALF <= kept < SIZE
    second = await start(command, folder)
    out, error = await second.communicate()
    assert second.returncode == 0, error
    began, url = out.decode().split()
    assert int(began) > HALF - (16 << 20)  # what was confirmed then, and not from the start
    await is_there(service, url, path)


async def is_there(service: Service, url: str, path: Path) -> None:
    alice = service.person()
    reference = await alice.reference(url)
    assert (reference.name, reference.type) == ("clip.mp4", "video/mp4")
    process = await start(["sha256sum", str(path)], path.parent)
    out, _ = await process.communicate()
    assert out.decode().split()[0] == reference.sha256


@pytest.fixture(scope="module")
def tus_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tus-js-client in it."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node with npm: apt-get install npm")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "tus-js-client@4.3.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50, cwd=folder)
    if done.returncode:
        pytest.skip(f"npm could not install tus-js-client: {done.stderr[-300:]}")
    (folder / "upload.js").write_text(TUS_JS)
    return folder


def test_tuspy(tmp_path: Path) -> None:
    async def work() -> None:
        path = file(tmp_path, SIZE)
        async with serving(tmp_path / "media") as service:
            command = [sys.executable, "-c", TUSPY, service.base, str(path), str(tmp_path / "state.json")]
            await killed_and_resumed(service, tmp_path, command, path)

    run(work())


def test_tus_js_client(tmp_path: Path, tus_js: Path) -> None:
    async def work() -> None:
        path = file(tmp_path, SIZE)
        (tmp_path / "state.json").write_text("{}")
        async with serving(tmp_path / "media") as service:
            command = ["node", "upload.js", service.base, str(path), str(tmp_path / "state.json"), "1"]
            await killed_and_resumed(service, tus_js, command, path)

    run(work())


def test_tus_js_client_in_parts_at_once(tmp_path: Path, tus_js: Path) -> None:
    async def work() -> None:
        path = file(tmp_path, 24_000_000)
        (tmp_path / "state.json").write_text("{}")
        async with serving(tmp_path / "media") as service:
            command = ["node", "upload.js", service.base, str(path), str(tmp_path / "state.json"), "4"]
            process = await start(command, tus_js)
            out, error = await process.communicate()
            assert process.returncode == 0, error
            await is_there(service, out.decode().split()[-1], path)

    run(work())

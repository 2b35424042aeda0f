"""nginx: files by sendfile, and uploads by its DAV module, as Debian builds it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from .base import Hello, Mode, Peer

__all__ = ["Nginx"]

CONFIGURATION = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_max_body_size 0;
    client_body_temp_path {files}/temporary;
    proxy_temp_path {folder}/p;
    fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port};
        root {files};
        location / {{ dav_methods PUT; }}
    }}
}}
"""


class Nginx(Peer):
    """files: the folder that it serves, and that uploads go to. It has no connections of messages."""

    name = "nginx"
    package = "nginx"

    def __init__(self, files: Path | None = None) -> None:
        self._files = files
        self._program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

    def missing(self) -> str | None:
        return None if self._program else "nginx is not installed"

    def version(self) -> str:
        assert self._program is not None
        said = subprocess.run([self._program, "-v"], capture_output=True, text=True, check=False).stderr
        found = re.search(r"nginx/(\S+)", said)
        return found[1] if found else "?"

    def command(self, folder: Path, port: int, mode: Mode) -> list[str]:
        assert self._program is not None
        assert self._files is not None
        configuration = folder / "nginx.conf"
        user = "user root;\n" if folder.owner() == "root" else ""
        configuration.write_text(user + CONFIGURATION.format(folder=folder, files=self._files, port=port))
        return [self._program, "-c", str(configuration)]

    def hello(self, mode: Mode, i: int) -> Hello:
        raise NotImplementedError

    def message(self, mode: Mode, i: int) -> bytes:
        raise NotImplementedError

    def answer_size(self, mode: Mode) -> int:
        raise NotImplementedError

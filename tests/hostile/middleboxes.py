"""Real proxies at the carrier, with the configuration that a case wants: squid and tinyproxy, which phones are told of,
and nginx and haproxy, which nobody is told of: what goes to port 80 goes through them."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from .namespaces import Host, inside
from .network import CARRIER, GATEWAYS

__all__ = ["PACKAGES", "PROXY", "haproxy", "missing", "nginx", "squid", "tinyproxy"]

PACKAGES = {"squid": "squid", "tinyproxy": "tinyproxy-bin", "nginx": "nginx-light", "haproxy": "haproxy"}
PROXY = f"{CARRIER['wifi']}:3128"
START_S = 20.0


def missing(programs: Sequence[str]) -> str:
    """What has to be installed; "" = nothing."""
    lacking = [PACKAGES[program] for program in programs if not _path(program)]
    return f"apt-get install {' '.join(lacking)}" if lacking else ""


def squid(carrier: Host, folder: Path, lines: str = "http_access allow all") -> None:
    """lines: its rules of access."""
    folder.chmod(0o755)
    _start(carrier, folder, "squid", ["-N", "-d", "1", "-n", f"lab{time.monotonic_ns()}", "-f"], f"""
http_port {PROXY}
{lines}
cache deny all
access_log none
cache_store_log none
cache_log /dev/null
coredump_dir none
pid_filename none
netdb_filename none
pinger_enable off
cache_mem 8 MB
shutdown_lifetime 0 seconds
visible_hostname carrier
""", 3128)  # fmt: skip


def tinyproxy(carrier: Host, folder: Path) -> None:
    """It closes after each response, and says so to nobody."""
    _start(carrier, folder, "tinyproxy", ["-d", "-c"], """
Port 3128
Listen 0.0.0.0
Timeout 600
MaxClients 100
LogLevel Error
""", 3128)  # fmt: skip


def nginx(carrier: Host, folder: Path, lines: str = "") -> None:
    """In front of the gateway's port 80, as it comes; lines: of the location."""
    scratch = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    _start(carrier, folder, "nginx", ["-p", str(folder), "-e", f"{folder}/nginx.err", "-c"], f"""
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
events {{ worker_connections 256; }}
http {{
    access_log off;
    {scratch}
    server {{
        listen 8880;
        location / {{
            proxy_pass http://{GATEWAYS[0]}:80;
            {lines}
        }}
    }}
}}
""", 8880)  # fmt: skip
    _transparent(carrier)


def haproxy(carrier: Host, folder: Path, lines: str = "", idle_s: int = 50) -> None:
    """In front of the gateway's port 80, as its examples have it; idle_s: when it closes who is silent."""
    _start(carrier, folder, "haproxy", ["-db", "-f"], f"""
defaults
    mode http
    timeout connect 5s
    timeout client {idle_s}s
    timeout server {idle_s}s
    {lines}
frontend here
    bind 0.0.0.0:8880
    default_backend there
backend there
    server gateway {GATEWAYS[0]}:80
""", 8880)  # fmt: skip
    _transparent(carrier)


def _transparent(carrier: Host) -> None:
    carrier.iptables("-t nat -A PREROUTING -p tcp -i wifi --dport 80 -j REDIRECT --to-ports 8880")


def _path(program: str) -> str:
    return shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") or ""


def _start(carrier: Host, folder: Path, program: str, words: list[str], text: str, port: int) -> None:
    conf = folder / f"{program}.conf"
    conf.write_text(text)
    log = open(folder / f"{program}.log", "a", encoding="utf-8")  # noqa: SIM115 - the process has it
    with log:
        process = carrier.start(_path(program), *words, str(conf), log=log)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with inside(carrier), socket.socket() as knock:
            if knock.connect_ex((CARRIER["wifi"], port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{program} does not listen: {(folder / f'{program}.log').read_text()[-500:]}")

"""The programs that the lab runs and has not made itself: where they are, and what they are called in Debian."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable

__all__ = ["find", "install", "missing"]

PACKAGES = {
    "haproxy": "haproxy", "ip": "iproute2", "iptables": "iptables", "mosquitto": "mosquitto", "nginx": "nginx-light",
    "node": "nodejs", "npm": "npm", "redis-server": "redis-server", "squid": "squid", "tinyproxy": "tinyproxy-bin",
}  # fmt: skip
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(program: str) -> str:
    """Its path, "" = it is not here."""
    return shutil.which(program) or shutil.which(program, path=PATH) or ""


def missing(programs: Iterable[str]) -> str:
    """What has to be done first; "" = nothing."""
    lacking = sorted({PACKAGES[program] for program in programs if not find(program)})
    return f"apt-get install {' '.join(lacking)}" if lacking else ""


def install(programs: Iterable[str]) -> str:
    """From Debian, where we are root and apt is there. "" = they are here, else why not."""
    if not (why := missing(programs)):
        return ""
    if os.geteuid() != 0 or not find("apt-get"):
        return why
    print(why, file=sys.stderr)
    words = [*why.split(), "--yes", "--quiet", "--no-install-recommends"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for each in (["apt-get", "update", "--quiet"], words):
        done = subprocess.run(each, env=env, capture_output=True, text=True)
        if done.returncode:
            return f"{' '.join(each)}: {done.stderr.strip()[-200:]}"
    return missing(programs)

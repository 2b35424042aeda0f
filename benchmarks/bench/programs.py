"""The programs that the bench runs: the load generators, compiled here, and the peers, installed if that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

__all__ = ["REPOSITORY", "WORK", "build", "certificate", "install", "program"]

REPOSITORY = Path(__file__).resolve().parents[2]
WORK = REPOSITORY / "build" / "bench"
"""On the same disk as the checkout: what is to be durable must not lie in memory."""
SOURCES = REPOSITORY / "benchmarks" / "load"
FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra"]
PROGRAMS = {
    "limit": ["limit.c"],
    "wireload": ["wireload.c"],
    "wireload-tls": ["-DWITH_TLS", "wireload.c", "-lssl", "-lcrypto"],
    "p2p": ["p2p.c"],
    "accept": ["accept.c"],
    "idle": ["idle.c"],
    "probe": ["probe.c"],
    "slow": ["slow.c"],
    "flood": ["flood.c"],
    "transfer": ["transfer.c"],
}
OPENSSL = Path("/usr/include/openssl/ssl.h")


def program(name: str) -> Path:
    """Where a compiled program is, or would be."""
    return WORK / name


def build() -> list[str]:
    """Compile what is older than its sources; returns a line for each program that could not be compiled."""
    WORK.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
    failed = []
    for name, words in PROGRAMS.items():
        made = program(name)
        if made.exists() and made.stat().st_mtime > newest:
            continue
        made.unlink(missing_ok=True)
        command = [compiler, *FLAGS, "-o", str(made), *words]
        done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False)
        if done.returncode:
            complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
            failed.append(f"{name} could not be compiled: {complaint}")
    return failed


def install(packages: list[str]) -> str | None:
    """Install packages of Debian's, where we are root and apt is there; why not, or None."""
    packages = sorted(set(packages) | (set() if OPENSSL.exists() else {"libssl-dev"}))
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"not installed, since that takes root and apt: {', '.join(packages)}" if packages else None
    if not packages:
        return None
    print(f"installing {', '.join(packages)}", file=sys.stderr)
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    said = ""
    for words in (command, ["apt-get", "update", "-q"], command):  # the lists of packages may be old
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if words is command and done.returncode == 0:
            return None
        said = done.stderr
    return f"apt-get could not install {', '.join(packages)}: {said.strip()[-200:]}"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of our own for 127.0.0.1, and its key (P-256), as PEM files in `folder`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "certificate.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private

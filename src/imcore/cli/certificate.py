"""A certificate that signs itself and is made to be thrown away: for the demo's TLS and for tests, and nothing else."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ..config import Tls

__all__ = ["self_signed"]


def self_signed(folder: Path, host: str = "127.0.0.1", *more: str) -> tuple[Tls, ssl.SSLContext]:
    """Files for a listener called `host`, and perhaps otherwise too, written to `folder`, and a context for clients
    that trusts nobody else."""
    subjects = [_subject(each) for each in (host, *more)]
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "imcore demo")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Tls(certificate=str(folder / "certificate.pem"), key=str(folder / "key.pem"))
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    Path(files.certificate).write_bytes(pem)
    Path(files.key).touch(mode=0o600)
    Path(files.key).write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files, ssl.create_default_context(cadata=pem.decode())


def _subject(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)

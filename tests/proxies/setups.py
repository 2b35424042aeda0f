"""The configurations of real proxies, for whoever runs one in the foreground: in a test's folder, or in the lab.

Each gives the text of its configuration, and the words behind the program's name; the configuration is in the folder's
`conf`.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["haproxy", "nginx", "squid", "tinyproxy"]

Setup = tuple[str, list[str]]


def squid(folder: Path, name: str, lines: str, user: str = "") -> Setup:
    """name: its own (one that meets its own on the way refuses), and that of what it has in shared memory. lines: where
    it listens, and whom it lets do what. user: that it becomes where it starts as root; "" = that of Debian."""
    text = f"""
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
visible_hostname {name}
cache_effective_user {user or "proxy"}
"""
    return text, ["-N", "-d", "1", "-n", name, "-f", f"{folder}/conf"]


def tinyproxy(folder: Path, address: str, port: int, lines: str = "") -> Setup:
    """It closes after each response, and says so to nobody."""
    text = f"""
Port {port}
Listen {address}
Timeout 600
MaxClients 100
LogLevel Error
{lines}
"""
    return text, ["-d", "-c", f"{folder}/conf"]


def nginx(folder: Path, listen: str, target: str, lines: str = "") -> Setup:
    """In front of target. lines: of its location."""
    scratch = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = f"""
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    {scratch}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://{target};
            {lines}
        }}
    }}
}}
"""
    return text, ["-c", f"{folder}/conf", "-p", f"{folder}", "-e", f"{folder}/log"]


def haproxy(folder: Path, listen: str, target: str, lines: str = "", idle_s: int = 50) -> Setup:
    """In front of target, as its examples have it. idle_s: when it closes who is silent, and answers in whose place."""
    text = f"""
defaults
    mode http
    timeout connect 5s
    timeout client {idle_s}s
    timeout server {idle_s}s
    {lines}
frontend here
    bind {listen}
    default_backend there
backend there
    server gateway {target}
"""
    return text, ["-db", "-f", f"{folder}/conf"]

"""Names to addresses by the system's resolver, which may hang for as long as it likes: nobody's exit waits for it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable

__all__ = ["Resolve", "is_address", "system"]

Resolve = Callable[[str], Awaitable[list[str]]]
"""The IP addresses of a name, in the order in which to try them. Raises OSError."""


def is_address(host: str) -> bool:
    """An IP address, and no name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def system(name: str) -> list[str]:
    """As the system resolves it. Raises OSError."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str], error: Exception | None) -> None:
        if found.done():
            return
        if error is None:
            found.set_result(addresses)
        else:
            found.set_exception(error)

    def look_up() -> None:
        addresses: list[str] = []
        failure: Exception | None = None
        try:
            infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
        except OSError as error:
            failure = error
        except UnicodeError as error:  # a label that IDNA does not allow
            failure = OSError(f"{name!r} is not a name that can be looked up: {error}")
        try:
            loop.call_soon_threadsafe(settle, addresses, failure)
        except RuntimeError:  # the loop was closed while the resolver took its time
            return

    # A thread of its own, and a daemon: those of the loop's executor are waited for when the program ends.
    threading.Thread(target=look_up, name=f"imcore resolves {name}", daemon=True).start()
    return await found

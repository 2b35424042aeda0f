"""What a client says of itself on each new link."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ..errors import ConfigError
from ..messages import Hello, Resume, Role

__all__ = ["Greeting"]

FORMATS_MOST = 8
FORMAT_MOST = 16


class Greeting:
    """device: its name. accepts: payload formats beside the plain one, best first. fresh: see `Client`. Raises
    `ConfigError` for formats that no HELLO can carry."""

    def __init__(self, device: str, accepts: Iterable[str], fresh: Literal["oldest", "head"]) -> None:
        self.device = device
        self._accepts = list(accepts)
        self._fresh = fresh
        if len(self._accepts) > FORMATS_MOST or not all(0 < len(name) <= FORMAT_MOST for name in self._accepts):
            raise ConfigError(
                f"accepts: expected at most {FORMATS_MOST} names of 1 to {FORMAT_MOST} characters, got {self._accepts}"
            )

    def hello(self, token: str, role: Role, resume: Resume | None, carrier: str) -> Hello:
        """The HELLO of a link. carrier: what it is on."""
        return Hello(
            token, self.device, role, "imcore-python", resume, self._accepts, fresh=self._fresh, carrier=carrier
        )

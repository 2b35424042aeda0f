"""What a transfer remembers across processes: a small file of its own, written anew each time, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from ..errors import ConfigError

__all__ = ["Down", "Up", "forget", "remember", "remembered"]

State = TypeVar("State", bound=msgspec.Struct)


class Up(msgspec.Struct):
    """An upload under way. parts: their paths on the service, in order, with where each one ends in the file."""

    size: int
    sha256: str
    parts: list[tuple[str, int]] = []


class Down(msgspec.Struct):
    """A download under way. done: pieces [start, stop) that are on disk, in order."""

    id: str
    sha256: str
    done: list[tuple[int, int]] = []


def remember(path: Path, state: msgspec.Struct) -> None:
    """Raises `ConfigError` if it can't be written."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_bytes(msgspec.json.encode(state))
        os.replace(new, path)
    except OSError as error:
        raise ConfigError(f"{path}: expected a file to remember a transfer in: {error.strerror}") from None


def remembered(path: Path, kind: type[State]) -> State | None:
    """What an earlier process wrote, None if there is nothing, or nothing that we know."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: expected a file to remember a transfer in: {error.strerror}") from None


def forget(path: Path) -> None:
    """It is over."""
    path.unlink(missing_ok=True)

"""What options take: numbers within bounds, text that can be sent; and one sentence for what is neither."""

from __future__ import annotations

import argparse
from collections.abc import Callable

__all__ = ["seconds", "utf8", "whole"]

SECONDS_MOST = 86400.0


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """For `add_argument(type=…)`: whole numbers from `least` to `most`; None = any above."""

    def read(word: str) -> int:
        try:
            number = int(word)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            bounds = f"from {least} on" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"expected a whole number {bounds}, got {word!r}")
        return number

    return read


def seconds(word: str) -> float:
    """For `add_argument(type=…)`: a time of at most a day."""
    try:
        number = float(word)
    except ValueError:
        number = -1.0
    if not 0 <= number <= SECONDS_MOST:
        raise argparse.ArgumentTypeError(f"expected seconds from 0 to {SECONDS_MOST:g}, got {word!r}")
    return number


def utf8(word: str) -> str:
    """For `add_argument(type=…)`: what UTF-8 can carry; not every argument is."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"expected UTF-8, got {word!r}") from None
    return word

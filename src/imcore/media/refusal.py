"""What the media service does not do, as HTTP says it: a status, and a sentence that says what was expected."""

from __future__ import annotations

__all__ = ["Refusal", "quoted"]


class Refusal(Exception):
    """Becomes a response. headers: what it says beside the sentence."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = headers or {}

    def __str__(self) -> str:
        return f"{self.status}: {self.text}"


def quoted(text: str) -> str:
    """What came, for a sentence: the beginning of it, whatever it is made of."""
    return repr(text[:80])[:80]

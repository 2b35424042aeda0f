"""Waits of the client, short enough for tests: what they are in life stands in the modules."""

from __future__ import annotations

import pytest

from imcore.client import backoff, client


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.01)
    monkeypatch.setattr(backoff, "MOST_S", 0.05)
    monkeypatch.setattr(client, "FAREWELL_S", 0.3)

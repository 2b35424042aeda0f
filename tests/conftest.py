"""What holds for the whole suite: hypothesis profiles, a Redis for a test, and nothing is skipped unseen in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.redis_server import RedisServer

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")

# No deadlines: a shared machine is slow by fits. In CI the same examples each time, so that a red run means the change.
settings.register_profile("everyday", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
settings.register_profile("sanitize", deadline=None, print_blob=True, max_examples=25)
settings.load_profile("ci" if IN_CI else "everyday")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of the test's own, which it may kill: what it has answered is on disk."""
    server = RedisServer(sync="always")
    yield server
    server.close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test fails the run: what it needs was not there, so nothing was shown."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not IN_CI or reporter is None:
        return
    reports = reporter.stats.get("skipped", [])
    skipped = [report for report in reports if "platform" not in getattr(report, "keywords", ())]
    if skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line("")
        for report in skipped:
            reporter.write_line(f"skipped in CI: {report.nodeid}: {report.longrepr[2]}", red=True)

"""What all tests share: the real parts, a clock that can be frozen, and a word on what was left out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import freezegun
import hypothesis
import pytest

from canaryd_sandbox.world import World
from tests.one_process import Released, a_released_world

pytest_plugins = ["tests.real.fixtures", "tests.side_by_side"]

# freeze_time walks every loaded module; the kubernetes client's lazy ones would build pydantic models under a
# false datetime, and crash.
hypothesis.settings.register_profile(
    "shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)  # shared cores
hypothesis.settings.load_profile("shared")
freezegun.configure(extend_ignore_list=["kubernetes", "pydantic"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason why tests were left out: how many, and how to get them."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    for reason, number in sorted(reasons.items()):
        terminalreporter.write_line(f"left out: {number} test{'s' * (number != 1)}: {reason}", yellow=True)


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    """See `Released`; made once, and only read."""
    folder = tmp_path_factory.mktemp("released")
    with World(realtime=False, start=time.time() - 400, rate=100.0, folder=folder) as world:
        yield a_released_world(world)

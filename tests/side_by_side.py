"""Tests of a run by several workers (make test): which begin first, and which give way. In a run by one,
nothing is changed."""

from __future__ import annotations

import os

import pytest

# Niceness. Linux weighs it among the processes of one session alone (sched(7), autogroups): what tests start
# is a process group of its own, so that no Ctrl-C of the terminal ends it first, but no session.
GIVES_WAY = 5


def is_worker() -> bool:
    return "PYTEST_XDIST_WORKER" in os.environ


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups first, since one worker has to do all of a group; and before all those on real parts, which last
    longest."""
    if is_worker():
        items.sort(
            key=lambda item: (not item.get_closest_marker("real"), not item.get_closest_marker("xdist_group"))
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A worker without real parts gives way to those that have them: there latencies are real."""
    if is_worker() and not item.get_closest_marker("real") and os.nice(0) < GIVES_WAY:
        os.nice(GIVES_WAY - os.nice(0))

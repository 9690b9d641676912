"""A sandbox whose time the test moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from canaryd_sandbox.world import World


@pytest.fixture
def world() -> Iterator[World]:
    """The worked example at 1,000,000 s, v1 ready, 100 requests a second, one scrape a second."""
    with World(realtime=False, start=1_000_000.0, rate=100.0) as made:
        yield made

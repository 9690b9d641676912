"""Marks what stands here: each test says from which state of the world (fixtures.py) it begins.

Tests on real parts run in one worker (xdist group `real`): two worlds would fight for the cores.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.real)
            item.add_marker(pytest.mark.xdist_group("real"))

"""Marks what stands here: each test says from which state of the world (fixtures.py) it begins.

A worker of xdist starts one world, for a group of tests. There are two of them, since tests here wait for most of their time: on two cores
both groups, and the tests without real parts, run side by side. A file is in the second group where that takes about as long as the first.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECOND = ("test_httproute.py", "test_releases.py", "test_routes_of_the_use_case.py")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.real)
            item.add_marker(pytest.mark.xdist_group("real-second" if item.path.name in SECOND else "real"))

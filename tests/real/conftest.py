"""Marks what stands here: each test says from which state of the world (fixtures.py) it begins.

A worker of xdist starts one world, for a group of tests. There are two of them, since tests here wait for
most of their time: on two cores both groups, and the tests without real parts, run side by side; three worlds
left too little to the others. What is not of the first group is of the second, which lasts about as long.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
FIRST = (  # with the contract tests on a real API server, which stand elsewhere
    "test_application.py",
    "test_chart_rights.py",
    "test_check.py",
    "test_deploy.py",
    "test_gates.py",
    "test_parts.py",
    "test_reset.py",
    "test_split.py",
    "test_tutorial.py",
)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.real)
            item.add_marker(pytest.mark.xdist_group("real" if item.path.name in FIRST else "real-second"))

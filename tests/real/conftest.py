"""Marks what stands here: each test says from which state of the world (fixtures.py) it begins.

A worker of xdist starts one world, for a group of tests. There are three of them, since tests here wait for most of their time: on two
cores all three, and the tests without real parts, run side by side. What is of no group by name is of the second. Each lasts about as long
as the others.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
GROUPS = {
    # With the contract tests on a real API server, which stand elsewhere.
    "real": ("test_application.py", "test_chart_rights.py", "test_check.py", "test_deploy.py", "test_parts.py"),
    "real-third": ("test_gates.py", "test_httproute.py", "test_reset.py", "test_split.py", "test_tutorial.py"),
}


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.real)
            group = next((name for name, files in GROUPS.items() if item.path.name in files), "real-second")
            item.add_marker(pytest.mark.xdist_group(group))

"""One world of real parts for all tests of a worker, wherever they stand, started when the first of them
asks.

A plugin of tests/conftest.py, and not a conftest: a fixture imported into several of those would be one
fixture for each, and a world for each takes 1.3 GB.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.real.daemon import Canaryd, Files, settings
from tests.real.world import PartsMissing, World, check_parts


@pytest.fixture(scope="session")
def real_parts() -> None:
    """Skips in one line where the parts are not installed; fails there if CANARYD_REQUIRE_REAL=1."""
    try:
        check_parts()
    except PartsMissing as missing:
        if os.environ.get("CANARYD_REQUIRE_REAL") == "1":
            pytest.fail(f"CANARYD_REQUIRE_REAL=1, but {missing}", pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def real_cluster(real_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything up, the use case not yet applied. Pods of carts are served as well, for tests of several
    services."""
    with World.start(tmp_path_factory.mktemp("world"), apps=("front-end", "carts")) as world:
        yield world


@pytest.fixture
def world(real_cluster: World) -> World:
    """The use case's beginning: front-end-v1 alone behind sockshop, nothing told yet."""
    real_cluster.reset()
    return real_cluster


@pytest.fixture
def canaryd(real_cluster: World, tmp_path: Path) -> Iterator[Callable[..., Canaryd]]:
    """Makes daemons for this world: `canaryd(policies={"front-end": ...}).start()`; all of them end with the
    test.

    config: by default `settings(world)`; more: of `Canaryd`.
    """
    made: list[Canaryd] = []

    def make(
        *, config: Mapping[str, Any] | str | None = None, policies: Files | None = None, **more: Any
    ) -> Canaryd:
        folder = tmp_path / f"canaryd-{len(made)}"
        made.append(
            Canaryd(
                folder,
                real_cluster.kubeconfig,
                config=config or settings(real_cluster),
                policies=policies,
                **more,
            )
        )
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()

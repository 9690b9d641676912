"""Every block of the README and of the documentation that shows what a command prints: it is run, and prints
that.

A block may leave lines out (`...`); the lines that it shows are there, in this order. Where the world is
simulated with fixed seeds they are the same to the digit; where ports, ids or times differ each time, numbers
are not compared."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs_generator import ROOT
from docs_generator.checks import markdown_files
from tests.docs import shown_worlds
from tests.docs.shown_worlds import printed
from tests.real.walkthrough import Type, plain, steps

# Pages whose blocks are run elsewhere, and where.
ELSEWHERE = {
    "docs/getting-started/first-release.md": "tests/real/test_tutorial.py follows it, on a real cluster",
}


def shown() -> dict[tuple[str, str], Type]:
    """Page and command of every block, but of those that are run elsewhere."""
    found = {}
    for path in markdown_files():
        page = str(path.relative_to(ROOT))
        if page not in ELSEWHERE:
            found |= {
                (page, step.command): step for step in steps(path.read_text()) if isinstance(step, Type)
            }
    return found


def holds(block: Type, page: str, lines: list[str], to_the_digit: bool) -> None:
    """AssertionError where a line of the block is not printed, with all that is."""
    same = (lambda line: line.rstrip()) if to_the_digit else plain
    rest = iter([same(line) for line in lines])
    for line in block.shown:
        assert line.strip() in ("", "...") or same(line) in rest, (
            f"{page}:{block.line}: $ {block.command} does not print\n{line}\nbut\n" + "\n".join(lines)
        )


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory: pytest.TempPathFactory) -> Iterator[shown_worlds.World]:
    world = shown_worlds.a_rolled_back_release(tmp_path_factory.mktemp("rolled-back"))
    yield world
    world.__exit__(None, None, None)


EXPLAIN = "canaryd explain front-end"
RECOMPUTED = "canaryd explain front-end --config config/canaryd.yaml"
CHECK = "canaryd check front-end --policies policies/ --config config/canaryd.yaml --as canaryd/canaryd"
DEPLOY = "canaryd deploy front-end"
PLAN = "canaryd plan policies/front-end.yaml --rate 50/s --errors 0.5% --latency 60ms --replicas 3"

PLAN_TOO_LITTLE = "canaryd plan policies/front-end.yaml --rate 5/s --regression errors=3x --rollouts 10"


def test_every_block_is_run_by_a_test_below_or_elsewhere() -> None:
    assert set(shown()) == {
        ("README.md", EXPLAIN),
        ("docs/operations/explain.md", EXPLAIN),
        ("docs/operations/explain.md", RECOMPUTED),
        ("docs/operations/check.md", CHECK),
        ("docs/guides/deploy.md", DEPLOY),
        ("docs/guides/plan.md", PLAN),
        ("docs/guides/plan.md", PLAN_TOO_LITTLE),
    }


@pytest.mark.parametrize("page", ["README.md", "docs/operations/explain.md"])
def test_a_rollback_is_explained_as_shown(rolled_back: shown_worlds.World, page: str) -> None:
    holds(shown()[page, EXPLAIN], page, printed(rolled_back, shlex.split(EXPLAIN)[1:]), to_the_digit=True)


def test_a_rollback_is_recomputed_as_shown(
    rolled_back: shown_worlds.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = "docs/operations/explain.md"
    shown_worlds.settings_file(rolled_back, tmp_path)
    monkeypatch.chdir(tmp_path)
    holds(
        shown()[page, RECOMPUTED], page, printed(rolled_back, shlex.split(RECOMPUTED)[1:]), to_the_digit=True
    )


def test_three_mistakes_are_found_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "docs/operations/check.md"
    world = shown_worlds.a_service_with_three_mistakes(tmp_path)
    try:
        monkeypatch.chdir(tmp_path)
        lines = printed(world, shlex.split(CHECK)[1:])
    finally:
        world.__exit__(None, None, None)
    holds(shown()[page, CHECK], page, lines, to_the_digit=False)


def test_a_version_is_deployed_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "docs/guides/deploy.md"
    shown_worlds.answering(monkeypatch)
    world = shown_worlds.a_shop_with_a_newer_version_in_staging(tmp_path)
    try:
        lines = printed(world, shlex.split(DEPLOY)[1:], answer="y\n")
    finally:
        world.__exit__(None, None, None)
    holds(shown()[page, DEPLOY], page, lines, to_the_digit=True)


@pytest.mark.parametrize("command", [PLAN, PLAN_TOO_LITTLE])
def test_a_plan_is_printed_as_shown(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    page = "docs/guides/plan.md"
    monkeypatch.chdir(ROOT)
    holds(shown()[page, command], page, printed(None, shlex.split(command)[1:]), to_the_digit=True)

"""What was measured is of the code that decides, and of no other."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import field, make_dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from bench import results

SOURCE = results.ROOT


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the code, which is what is hashed."""
    for part in ("canaryd", "bench"):
        copytree(SOURCE / part, tmp_path / part, ignore=ignore_patterns("__pycache__"))
    monkeypatch.setattr(results, "ROOT", tmp_path)
    return tmp_path


def change(path: Path) -> None:
    path.write_text(path.read_text() + "\n# changed\n")


def loaded() -> set[str]:
    """What Python itself loads of canaryd to simulate a rollout, as paths."""
    printed = "[print(one.__file__) for name, one in sys.modules.items() if name.split('.')[0] == 'canaryd']"
    listing = f"import sys, bench.unlike_users, bench.rollouts; {printed}"
    run = subprocess.run(
        [sys.executable, "-c", listing], cwd=SOURCE, capture_output=True, text=True, check=True
    )
    return {str(Path(path).relative_to(SOURCE)) for path in run.stdout.splitlines()} | {
        "bench/unlike_users.py",
        "bench/rollouts.py",
    }


def test_the_same_code_has_the_same_hash_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = results.tree()
    copytree(SOURCE / "canaryd", tmp_path / "canaryd", ignore=ignore_patterns("__pycache__"))
    monkeypatch.setattr(results, "ROOT", tmp_path)
    assert results.tree() != before  # nothing simulates a rollout here
    copytree(SOURCE / "bench", tmp_path / "bench")
    assert results.tree() == before


@pytest.mark.parametrize(
    "path",
    [
        "bench/rollouts.py",
        "bench/unlike_users.py",
        "canaryd/judge/full_weight.py",
        "canaryd/stats/between_replicas.py",
        "canaryd/domain/verdict.py",
    ],
)
def test_another_module_that_decides_is_another_measurement(root: Path, path: str) -> None:
    before = results.tree()
    change(root / path)
    assert results.tree() != before
    (root / path).write_text((SOURCE / path).read_text())
    assert results.tree() == before


@pytest.mark.parametrize(
    "path",
    [
        "canaryd/report/explanation.py",
        "canaryd/commands/explain/command.py",
        "bench/plots.py",
        "bench/worlds.py",
    ],
)
def test_another_module_that_does_not_is_the_same_measurement(root: Path, path: str) -> None:
    before = results.tree()
    change(root / path)
    assert results.tree() == before


def test_what_decides_is_what_python_loads_to_simulate_a_rollout(root: Path) -> None:
    """Packages are left out, so nothing may stand in them but what they are for."""
    decides = loaded()
    modules = {path for path in decides if not path.endswith("__init__.py")}
    assert "canaryd/judge/judge.py" in modules
    before = results.tree()
    for path in root.rglob("*.py"):
        if str(path.relative_to(root)) not in modules:
            change(path)
    assert results.tree() == before
    for path in sorted(modules):
        change(root / path)
        assert results.tree() != before, path
        (root / path).write_text((SOURCE / path).read_text())
    for path in decides - modules:
        assert [type(node) for node in ast.parse((SOURCE / path).read_text()).body] == [ast.Expr], path


def test_a_module_decides_from_its_first_import_on(root: Path) -> None:
    new, judge = root / "canaryd/stats/new.py", root / "canaryd/judge/judge.py"
    before = results.tree()
    new.write_text("A = 1\n")
    assert results.tree() == before
    judge.write_text(
        judge.read_text() + "\n\ndef late():\n    from canaryd.stats import new\n    return new\n"
    )
    imported = results.tree()
    assert imported != before
    new.write_text("A = 2\n")
    assert results.tree() not in (before, imported)


def test_a_case_is_defined_by_its_values_and_not_by_the_names_of_its_classes() -> None:
    one, other = (make_dataclass(name, ["rate", "bounds"], frozen=True) for name in ("World", "Scenario"))
    assert results.definition_of(one(0.5, (50, 100))) == results.definition_of(other(0.5, (50, 100)))
    assert results.definition_of(one(0.5, (50, 100))) != results.definition_of(one(0.5, (50, 150)))


def test_a_case_that_may_have_one_thing_more_is_the_same_case_without_it() -> None:
    before = make_dataclass("Case", [("rate", float), ("past", int)], frozen=True)
    after = make_dataclass(
        "Case", [("rate", float), ("since", int, field(default=0)), ("past", int, field(default=360))]
    )
    assert results.definition_of(before(0.5, 360)) == results.definition_of(after(0.5))
    assert results.definition_of(after(0.5)) != results.definition_of(after(0.5, since=6))
    assert results.definition_of(after(0.5)) != results.definition_of(after(0.5, past=60))

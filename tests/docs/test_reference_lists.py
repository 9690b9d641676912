"""The reference's lists of metrics, log events and events are those of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from canaryd.adapters.health_and_metrics import Metrics
from canaryd.adapters.kube import events
from canaryd.domain.policy.hooks import EVENTS
from canaryd.domain.rollout import Phase
from docs_generator import DOCS, ROOT
from tests.builders import NOW, a_policy, a_rollout, a_verdict
from tests.test_architecture import MAY_IMPORT

METRICS_AND_LOGS = (DOCS / "reference" / "metrics-and-logs.md").read_text()
EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
LEVELS = {"debug", "info", "warning", "error", "exception"}
# Log methods by which canaryd tells of troubles, all of them as warnings.
TROUBLES = {"_trouble", "_note"}
SHAPED = {"rollout.", "announcement."}  # names that are put together from a prefix and an event


def first_column(text: str) -> set[str]:
    return set(re.findall(r"^\| `([\w.]+)`", text, re.M))


def logged() -> dict[str, str]:
    """Each event's name, and its level."""
    found = {}
    for path in sorted((ROOT / "canaryd").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args):
                continue
            method = call.func.attr
            if method not in LEVELS | TROUBLES:
                continue
            names = [
                node.value
                for argument in call.args
                for node in ast.walk(argument)
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and EVENT.fullmatch(node.value)
            ]
            level = {"exception": "error"}.get(method, "warning" if method in TROUBLES else method)
            found |= dict.fromkeys(names, level)
    return found


def test_every_log_event_is_there_with_its_level_and_no_other() -> None:
    listed = dict(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| (\w+) \|", METRICS_AND_LOGS, re.M))
    moved = {f"rollout.{event}" for event in EVENTS if event not in ("started",)}
    assert {name: level for name, level in listed.items() if name not in moved} == logged()
    assert moved <= set(listed)


def test_every_metric_is_there_and_no_other() -> None:
    metrics = Metrics("0")
    gate = [{"before": "start", "gate": "https://tests.example"}]
    asked = a_rollout(policy=a_policy(hooks=gate), phase=Phase.WAITING, stage=-1, spans=(), clock_from=None)
    from canaryd.domain.lifecycle import Signal, advance

    metrics.show([advance(asked, Signal.AVAILABLE, NOW), a_rollout(canary="v9", verdict=a_verdict())])
    names = set()
    for family in metrics.registry.collect():
        if family.name.startswith("canaryd_"):
            names.add(f"{family.name}_total" if family.type == "counter" else family.name)
    listed = {name for name in first_column(METRICS_AND_LOGS) if name.startswith("canaryd_")}
    assert listed == names


def test_every_event_is_there_with_its_kubernetes_event() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| (\w+) \|", (DOCS / "reference" / "events.md").read_text(), re.M
    )
    assert rows == [
        (event, kind.reason, "Warning" if kind.warns else "Normal")
        for event in EVENTS
        for kind in [events._KINDS[event]]
    ]


def test_every_file_of_the_map_is_there() -> None:
    for page in (DOCS / "development" / "architecture.md", ROOT / "CONTRIBUTING.md"):
        named = re.findall(
            r"`((?:canaryd|canaryd_sandbox|tests|bench|charts|policies|config)/[\w/.]*)`", page.read_text()
        )
        assert named
        assert [path for path in named if not Path(ROOT / path).exists()] == []


def test_the_tables_of_layers_are_what_the_test_of_the_architecture_holds() -> None:
    allowed = {
        layer: {one.removeprefix("canaryd.").removeprefix("pydantic_core") for one in may} - {""}
        for layer, may in MAY_IMPORT.items()
    }
    rows = (
        (ROOT / "CONTRIBUTING.md", r"^\| `(\w+)` \| ([^|]+) \|$"),
        (DOCS / "development" / "architecture.md", r"^\| `canaryd/(\w+)/` \| .+ \| ([^|]+) \|$"),
    )
    for path, row in rows:
        said = dict(re.findall(row, path.read_text(), re.M))
        for layer, may in allowed.items():
            assert set(said[layer].split(", ")) - {"standard library"} == may, (path.name, layer)

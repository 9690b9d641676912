"""A record is read back equal, whatever it holds, and stays small enough to be stored."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel
from ruamel.yaml import YAML

from canaryd.adapters.kube.canaryrollout_object import (
    MOST_BYTES,
    bounded,
    record_of,
    spec_of,
    status_of,
    wishes_of,
)
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import (
    Announcement,
    AskedGate,
    Decision,
    DesiredActions,
    Held,
    Phase,
    Record,
    Rollout,
    RouteState,
    ServiceRollout,
)
from canaryd.domain.verdict import Answer, MetricFinding, Verdict
from tests.adapters.kube.api_servers import CRD
from tests.builders import (
    a_bracket,
    a_bracket_rollout,
    a_member,
    a_policy,
    a_rollout,
    a_verdict,
    with_entrance,
)
from tests.earlier_records import without_later_keys

# objects as canaryd 0.1 stored them, with every field in use, and before anything has happened
RECORDS = Path(__file__).parent / "records"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
LEAF = st.booleans() | st.integers(-9, 9) | TEXT
JSON = st.recursive(
    LEAF, lambda one: st.lists(one, max_size=2) | st.dictionaries(TEXT, one, max_size=2), max_leaves=4
)


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a declared type, nested dataclasses and all."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(
            kind, **{field.name: any_of(hints[field.name]) for field in dataclasses.fields(kind)}
        )  # type: ignore[arg-type]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if args[:1] == (RouteState,):
        return any_of(RouteState).map(lambda route: (route,))
    if args[:1] == (ServiceRollout,):
        return st.lists(any_of(ServiceRollout), min_size=1, max_size=3, unique_by=lambda one: one.key).map(
            tuple
        )
    if origin is tuple:
        return st.lists(any_of(args[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(TEXT, any_of(args[1]), max_size=2)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([st.none() if arg is type(None) else any_of(arg) for arg in args])
    plain: dict[Any, st.SearchStrategy[Any]] = {
        float: st.floats(allow_nan=False),
        int: st.integers(-(2**53), 2**53),  # what a Go server holds exactly
        str: TEXT,
        Any: JSON,
        Policy: st.just(a_policy()),
    }
    return plain[kind] if kind in plain else st.from_type(kind)


def through_the_server(value: Any) -> Any:
    """JSON as a server written in Go gives it back: a float without a fraction comes back as an integer."""
    if isinstance(value, dict):
        return {key: through_the_server(one) for key, one in value.items()}
    if isinstance(value, list):
        return [through_the_server(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def stored(record: Record) -> Record:
    rollout = record.rollout
    text = json.dumps({"spec": spec_of(record), "status": status_of(rollout)}, allow_nan=False)
    metadata = {
        "name": rollout.name,
        "namespace": rollout.namespace,
        "resourceVersion": record.resource_version,
        "uid": record.uid,
    }
    return record_of({**through_the_server(json.loads(text)), "metadata": metadata})


@settings(deadline=None, max_examples=60)
@given(any_of(Rollout), any_of(DesiredActions))
def test_every_record_is_read_back_equal(rollout: Rollout, wishes: DesiredActions) -> None:
    printable = dataclasses.replace(rollout, began=1.8e9, ended=None if rollout.ended is None else 1.9e9)
    record = Record(printable.with_verdict(printable.verdict), wishes, "7", "u")
    assert stored(record) == record


def test_a_record_of_several_services_is_read_back_equal_and_one_of_a_single_service_says_nothing_of_others() -> (  # noqa: E501
    None
):
    record = Record(
        with_entrance(
            a_bracket_rollout(
                verdict=a_verdict(),
                policy=a_bracket(a_member(analysis={"metrics": [{"errors": {}}], "warmup": "5s"})),
            ),
            verdict=a_verdict(reason="own"),
        ),
        resource_version="1",
    )
    assert stored(record) == record
    assert [part.analysis.warmup for part in stored(record).rollout.policy.parts] == [60, 5]
    assert not {"others", "ownVerdict", "bracket"} & {
        *status_of(a_rollout()),
        *status_of(a_rollout())["policy"],
    }


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_a_record_of_an_earlier_release_is_read_and_written_back_byte_by_byte(path: Path) -> None:
    written = path.read_text(encoding="utf-8")
    obj = json.loads(written)
    record = record_of(obj)
    again = {"metadata": obj["metadata"], "spec": spec_of(record), "status": status_of(record.rollout)}
    assert json.dumps(without_later_keys(again, obj), indent=1) + "\n" == written


def test_infinite_odds_are_kept() -> None:
    record = Record(a_rollout(verdict=a_verdict(Answer.FAIL, odds=float("inf"))), resource_version="1")
    assert stored(record) == record


def test_what_has_no_value_is_left_out_of_the_status() -> None:
    assert None not in status_of(a_rollout()).values()
    assert "ended" not in status_of(a_rollout())


def test_a_status_with_a_field_of_an_earlier_release_is_still_understood() -> None:
    metadata = {"name": a_rollout().name, "namespace": "production", "resourceVersion": "1"}
    assert (
        record_of({"metadata": metadata, "status": {**status_of(a_rollout()), "notes": []}}).rollout
        == a_rollout()
    )


def test_people_see_stage_weight_and_verdict() -> None:
    shown = status_of(a_rollout(stage=1, weight=25, verdict=a_verdict(Answer.PASS), ended=1_800_000_060.0))[
        "shown"
    ]
    assert shown == {
        "stage": "2/4",
        "weight": "25%",
        "verdict": "pass",
        "began": "2027-01-15T08:00:00Z",
        "ended": "2027-01-15T08:01:00Z",
    }
    assert status_of(a_rollout(stage=-1))["shown"]["stage"] == "-/4"


def test_a_spec_without_wishes_wishes_nothing() -> None:
    assert wishes_of({"service": "front-end", "version": "v2"}) == DesiredActions()
    assert wishes_of({"hold": True, "approvedStage": 2}) == DesiredActions(hold=True, approved_stage=2)
    assert spec_of(Record(a_rollout())) == {
        "service": "front-end",
        "version": "v2",
        "stable": "v1",
        "templateHash": "hash-v2",
    }


def test_a_copied_object_is_not_taken_for_the_original() -> None:
    metadata = {"name": "copy", "namespace": "production", "resourceVersion": "1"}
    with pytest.raises(ValueError, match="was it copied"):
        record_of({"metadata": metadata, "status": status_of(a_rollout())})


def test_the_crd_declares_every_wish_and_only_what_is_written() -> None:
    [version] = YAML(typ="safe").load(CRD.read_text(encoding="utf-8"))["spec"]["versions"]
    declared = version["schema"]["openAPIV3Schema"]["properties"]
    wishes = {to_camel(field.name) for field in dataclasses.fields(DesiredActions)}
    record = Record(
        a_bracket_rollout(
            verdict=a_verdict(),
            held=Held.PERSON,
            ended=1.8e9,
            gate_question=AskedGate(0, 1, 1.8e9, 1.8e9, "HTTP 503"),
        )
    )
    assert set(declared["spec"]["properties"]) == wishes | set(spec_of(record))
    status = status_of(record.rollout)
    for part, written in (
        ("properties", status),
        ("verdict", status["verdict"]),
        ("shown", status["shown"]),
        ("asking", status["asking"]),
    ):
        names = (
            declared["status"]["properties"]
            if part == "properties"
            else declared["status"]["properties"][part]["properties"]
        )
        assert set(names) - set(written) <= {"refused"}
    members = declared["status"]["properties"]["others"]["items"]["properties"]
    assert all(set(members) <= set(written) for written in status["others"])


def a_long_rollout(decisions: int, findings: int) -> Rollout:
    finding = MetricFinding("latency", "slower than 250 ms", Answer.UNDECIDED, says="x" * 200)
    verdict: Verdict = a_verdict(findings=(finding,) * findings)
    kept = tuple(
        Decision(float(at), "hold", Phase.HELD, 0, 10, f"reason {at}", verdict) for at in range(decisions)
    )
    told = tuple(
        Announcement(f"id.{at}", "held", float(at), "production", "web", "r", "v1", "v2", 0, 10, "")
        for at in range(decisions)
    )
    return a_rollout(decisions=kept, announcements=told, verdict=verdict)


def test_a_usual_rollout_is_stored_whole() -> None:
    rollout = a_long_rollout(20, 13)
    assert bounded(rollout) == rollout


def test_an_endless_rollout_stays_small_and_keeps_its_latest_decisions_whole() -> None:
    rollout = a_long_rollout(300, 20)
    small = bounded(rollout)
    assert len(json.dumps(status_of(small))) <= MOST_BYTES
    assert small.announcements == rollout.announcements[-200:]
    assert small.decisions[-1] == rollout.decisions[-1]
    assert [decision.reason for decision in small.decisions] == [
        decision.reason for decision in rollout.decisions
    ]
    assert small.decisions[0].verdict is not None
    assert small.decisions[0].verdict.findings == ()
    assert bounded(small) == small

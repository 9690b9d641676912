"""The queries that are answered, to the edge of their windows, and those that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd_sandbox.prometheus.promql import QueryError, Samples, evaluate, parse


def some_samples() -> Samples:
    """m of pods a and b at 10, 20, 30; b vanishes before 30."""
    samples = Samples()
    samples.append(
        10.0, [("m", (("pod", "a"), ("version", "v1")), 1.0), ("m", (("pod", "b"), ("version", "v2")), 10.0)]
    )
    samples.append(
        20.0, [("m", (("pod", "a"), ("version", "v1")), 2.0), ("m", (("pod", "b"), ("version", "v2")), 20.0)]
    )
    samples.append(30.0, [("m", (("pod", "a"), ("version", "v1")), 3.0)])
    return samples


def answer(query: str, *times: float) -> Any:
    return evaluate(some_samples(), parse(query), times)


@pytest.mark.parametrize(
    ("query", "at", "result"),
    [
        (
            "m{pod='a'}[10s]",
            20.0,
            [({"__name__": "m", "pod": "a", "version": "v1"}, [(20.0, 2.0)])],
        ),  # the left edge is out, the right in
        (
            "m{pod='a'}[10001ms]",
            20.0,
            [({"__name__": "m", "pod": "a", "version": "v1"}, [(10.0, 1.0), (20.0, 2.0)])],
        ),
        (
            "sum by (pod) (last_over_time(m[10s]))",
            20.0,
            [({"pod": "a"}, [(20.0, 2.0)]), ({"pod": "b"}, [(20.0, 20.0)])],
        ),
        (
            "sum by (pod) (last_over_time(m[10s]))",
            29.0,
            [({"pod": "a"}, [(29.0, 2.0)]), ({"pod": "b"}, [(29.0, 20.0)])],
        ),
        (
            "sum by (pod) (last_over_time(m[10s]))",
            31.0,
            [({"pod": "a"}, [(31.0, 3.0)])],
        ),  # (21, 31]: b's last sample is out
        (
            "sum by (pod) (last_over_time(m[15s]))",
            30.0,
            [({"pod": "a"}, [(30.0, 3.0)]), ({"pod": "b"}, [(30.0, 20.0)])],
        ),  # stale, yet there
        ("sum by (pod)(m)", 30.0, [({"pod": "a"}, [(30.0, 3.0)])]),  # stale is gone at once
        ("sum by (pod)(m)", 29.9, [({"pod": "a"}, [(29.9, 2.0)]), ({"pod": "b"}, [(29.9, 20.0)])]),
        ("sum(m)", 20.0, [({}, [(20.0, 22.0)])]),
        ("sum(max without (pod, job) (m))", 20.0, [({}, [(20.0, 22.0)])]),  # they differ in version as well
        ("sum(max without (pod, version) (last_over_time(m[10s])))", 20.0, [({}, [(20.0, 20.0)])]),
        (
            "count by (version) (max without (pod) (m))",
            20.0,
            [({"version": "v1"}, [(20.0, 1.0)]), ({"version": "v2"}, [(20.0, 1.0)])],
        ),
        (
            " sum  by(nothing , version) ( ( m ) ) ",
            20.0,
            [({"version": "v1"}, [(20.0, 2.0)]), ({"version": "v2"}, [(20.0, 20.0)])],
        ),
        (
            "count by (version) (m{pod=~'a|b'})",
            20.0,
            [({"version": "v1"}, [(20.0, 1.0)]), ({"version": "v2"}, [(20.0, 1.0)])],
        ),
        ("max(m)", 20.0, [({}, [(20.0, 20.0)])]),
        ("avg(m)", 20.0, [({}, [(20.0, 11.0)])]),
        (
            "m{pod!='a',version!~'v1|x'}",
            20.0,
            [({"__name__": "m", "pod": "b", "version": "v2"}, [(20.0, 20.0)])],
        ),
        ('{__name__="m",pod="a"}', 20.0, [({"__name__": "m", "pod": "a", "version": "v1"}, [(20.0, 2.0)])]),
        (
            "last_over_time(m{pod='b'}[1m])",
            60.0,
            [({"__name__": "m", "pod": "b", "version": "v2"}, [(60.0, 20.0)])],
        ),
        ("m", 329.9, [({"__name__": "m", "pod": "a", "version": "v1"}, [(329.9, 3.0)])]),
        ("m", 330.0, []),  # five minutes of lookback, and not a moment more
        ("m", 9.9, []),
    ],
)
def test_a_query_is_answered_as_prometheus_3_answers_it(query: str, at: float, result: Any) -> None:
    assert answer(query, at) == result


def test_a_range_leaves_out_the_steps_without_a_value() -> None:
    found = answer("sum by (pod) (last_over_time(m{pod='b'}[10s]))", 5.0, 15.0, 25.0, 35.0)
    assert found == [({"pod": "b"}, [(15.0, 10.0), (25.0, 20.0)])]


def test_after_a_restart_nothing_is_marked_stale() -> None:
    samples = some_samples()
    samples.forget_targets()
    samples.append(60.0, [])
    assert [labels["pod"] for labels, _ in evaluate(samples, parse("m"), [61.0])] == ["a"]


def test_samples_older_than_the_retention_go() -> None:
    samples = Samples(retention=100.0)
    for second in range(0, 300, 10):
        samples.append(float(second), [("m", (("pod", "a" if second < 100 else "b"),), 1.0)])
    found = evaluate(samples, parse("m[1h]"), [300.0])
    assert [labels["pod"] for labels, _ in found] == ["b"]
    assert found[0][1][0][0] >= 180.0
    assert samples.names() == {"__name__", "pod"}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("rate(m[5m])", "the function rate"),
        ("increase(m[5m])", "the function increase"),
        ("m + m", "a BinaryExpr"),
        ("-m", "a UnaryExpr"),
        ("topk(3, m)", "the aggregation topk"),
        ("sum without (pod) (m)", "without"),
        ("m offset 5m", "offset and @"),
        ("m @ 5", "offset and @"),
        ("m[5m:1m]", "a SubqueryExpr"),
        ("last_over_time(m[5m:1m])", "a Call"),
        ('{pod="a"}', "a selector without the metric's name"),
        ('{__name__=~"m.*"}', "a pattern for the metric's name"),
        ("5", "a NumberLiteral"),
        ("sum(sum(m))", "a AggregateExpr"),
        ("histogram_quantile(0.9, m)", "the function histogram_quantile"),
    ],
)
def test_every_other_query_is_refused_by_name_with_what_is_answered(query: str, named: str) -> None:
    with pytest.raises(QueryError) as refused:
        parse(query)
    assert refused.value.code == 422
    assert named in str(refused.value)
    assert "last_over_time(METRIC{matchers}[N])" in str(refused.value)

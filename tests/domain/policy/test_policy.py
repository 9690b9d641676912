# ruff: noqa: E501  (a refusal stands on one line, as people read it)

"""Policies: what may be written, what is refused and in which words, and that a record's policy comes back as
it was."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from canaryd.domain.policy.hooks import EVENTS, Hook
from canaryd.domain.policy.metrics import GRPC_FAILURES, Errors, Latency, Metric, Query
from canaryd.domain.policy.policy import Analysis, Policy, Stage
from canaryd.domain.policy.release_bracket import ServiceReference
from canaryd.domain.policy.route_reference import RouteReference
from canaryd.domain.policy.validation import InvalidPolicy


def written() -> dict[str, Any]:
    """The shortest useful policy, as YAML has it."""
    return {
        "service": {"name": "front-end", "namespace": "production", "selector": {"app": "front-end"}},
        "route": {"virtualService": "sockshop"},
        "stages": [{"weight": 10}, {"weight": 25}, {"weight": 100}],
    }


def changed(**sections: Any) -> dict[str, Any]:
    return {**written(), **sections}


def refusals(data: object) -> list[str]:
    with pytest.raises(InvalidPolicy) as refused:
        Policy.load(data)
    return [str(problem) for problem in refused.value.problems]


def test_the_shortest_policy_gets_every_default() -> None:
    policy = Policy.load(written())
    assert policy.key == ("production", "front-end")
    assert policy.service.version_label == "version"
    assert (policy.route.destination_rule, policy.route.add_subset, policy.route.http) == (
        "front-end",
        True,
        (),
    )
    assert policy.stages[0] == Stage(weight=10, minimum=120.0, deadline=900.0, approval=False)
    assert (policy.mode, policy.drift, policy.hooks) == ("steer", "hold", ())
    analysis = policy.analysis
    assert (analysis.interval, analysis.reporter, analysis.warmup) == (15, "destination", 60.0)
    assert (analysis.false_rollback_risk, analysis.bad_advance_risk) == (0.01, 0.05)
    assert analysis.errors == Errors(
        tolerated_ratio=0.10,
        tolerated_increase=0.001,
        unacceptable_ratio=1.0,
        unacceptable_increase=0.005,
        max=None,
        grpc_failures=GRPC_FAILURES,
    )
    assert analysis.latency == Latency(tolerated=0.10, unacceptable=0.25, slo={})
    assert analysis.queries == ()
    assert (analysis.undecided, analysis.minimum_requests, analysis.no_data, analysis.no_data_for) == (
        "advance",
        100,
        "hold",
        300.0,
    )
    assert policy.schedule.deadline is None
    assert policy.rollback.scale_canary_to is None
    assert policy.promotion.retire_stable is None


def test_everything_that_can_be_written_is_understood() -> None:
    policy = Policy.load(
        changed(
            version=1,
            route={
                "virtualService": "shop.example",
                "destinationRule": "fe",
                "addSubset": False,
                "http": ["web", "api"],
            },
            stages=[
                {"weight": 50, "minimum": "90s", "deadline": "1h30m", "approval": "required"},
                {"weight": 100, "minimum": "10m"},
            ],
            mode="observe",
            analysis={
                "interval": "5s",
                "reporter": "source",
                "falseRollbackRisk": "0.1%",
                "metrics": [
                    {"errors": {"max": "5%", "toleratedIncrease": 0, "grpcFailures": ["ABORTED"]}},
                    {"latency": {"slo": {"p99": "500ms", "p99.9": "2s"}}},
                    {
                        "query": {
                            "name": "cpu",
                            "promql": 'max(cpu{pod=~"$canary_pods"})',
                            "max": 0.9,
                            "for": 5,
                        }
                    },
                    {"query": {"name": "orders", "promql": "sum(rate(orders[$window]))", "min": 1}},
                ],
                "undecided": "rollback",
                "noData": "rollback",
                "noDataFor": "1m",
            },
            schedule={"deadline": "6h"},
            rollback={"scaleCanaryTo": 0, "after": "5m"},
            promotion={"retireStable": {"scaleTo": 0, "after": "1h"}},
            drift="restore",
            hooks=[{"on": list(EVENTS), "notify": "oncall"}],
        )
    )
    assert policy.stages[0] == Stage(weight=50, minimum=90, deadline=5400, approval=True)
    assert policy.analysis.false_rollback_risk == 0.001
    assert policy.analysis.errors == Errors(max=0.05, tolerated_increase=0.0, grpc_failures=("ABORTED",))
    assert policy.analysis.latency == Latency(slo={"p99": 0.5, "p99.9": 2.0})
    assert [(query.name, query.max, query.min, query.for_) for query in policy.analysis.queries] == [
        ("cpu", 0.9, None, 5),
        ("orders", None, 1, 3),
    ]
    assert policy.rollback.scale_canary_to == 0
    assert policy.rollback.after == 300
    assert policy.promotion.retire_stable is not None
    assert policy.promotion.retire_stable.after == 3600
    assert policy.hooks[0].on == EVENTS


def test_a_switched_off_metric_is_not_there() -> None:
    analysis = Policy.load(changed(analysis={"metrics": [{"errors": None}]})).analysis
    assert analysis.errors == Errors()
    assert analysis.latency is None


def test_nothing_of_a_policy_can_be_changed() -> None:
    policy = Policy.load(written())
    with pytest.raises(ValidationError, match="frozen"):
        policy.mode = "observe"


def put(path: str, value: Any) -> Callable[[], dict[str, Any]]:
    """A policy with one thing written otherwise, by a path such as analysis.interval."""

    def change() -> dict[str, Any]:
        data: Any = written()
        here, *parts = data, *path.split(".")
        for part in parts[:-1]:
            here = here[int(part)] if part.isdigit() else here.setdefault(part, {})
        here[int(parts[-1]) if parts[-1].isdigit() else parts[-1]] = value
        return dict(data)

    return change


@pytest.mark.parametrize(
    ("path", "value", "refusal"),
    [
        ("version", 2, "version must be 1, but is 2"),
        (
            "service.name",
            "Front End",
            "service.name must be a Kubernetes name (lower-case letters, digits and -, at most 63), but is 'Front End'",
        ),
        (
            "service.namespace",
            "a" * 64,
            f"service.namespace must be a Kubernetes name (lower-case letters, digits and -, at most 63), but is '{'a' * 64}'",
        ),
        ("service.selector", {}, "service.selector must have at least 1 entry, but has 0"),
        (
            "service.selector",
            {"app": 1.0},
            "service.selector.app must be text (in quotes where YAML sees a number), but is 1.0",
        ),
        (
            "service.selector",
            {"a/b/c": "x"},
            "service.selector.a/b/c must be a label's name such as version or app.kubernetes.io/version, but is 'a/b/c'",
        ),
        (
            "route.virtualService",
            "shop_1",
            "route.virtualService must be a Kubernetes name (lower-case letters, digits, - and ., at most 253), but is 'shop_1'",
        ),
        ("route.addSubset", "yes", "route.addSubset must be true or false, but is 'yes'"),
        ("route.http", ["web", "web"], "route.http[1] must be listed only once, but web is listed twice"),
        ("stages", [], "stages must have at least 1 entry, but has 0"),
        ("stages", "10, 100", "stages must be a list, such as [a, b], but is '10, 100'"),
        ("stages.0.weight", "10", "stages[0].weight must be a whole number, but is '10'"),
        ("stages.0.weight", True, "stages[0].weight must be a whole number, but is true"),
        ("stages.0.weight", -1, "stages[0].weight must be at least 0, but is -1"),
        ("stages.2.weight", 101, "stages[2].weight must be at most 100, but is 101"),
        ("stages.1.weight", 10, "stages[1].weight must be above the stage before it (10), but is 10"),
        (
            "stages.2.weight",
            90,
            "stages[2].weight must be 100, since a ladder ends with all traffic, but is 90",
        ),
        (
            "stages.0.minimum",
            90,
            "stages[0].minimum must be a duration such as 90s, 10m or 1h30m, but is 90: write 90s if that is meant",
        ),
        (
            "stages.0.minimum",
            "10s",
            "stages[0].minimum must be at least one look (analysis.interval, 15s), but is 10s",
        ),
        (
            "stages.0.minimum",
            "20m",
            "stages[0].deadline must be at least the stage's minimum (20m), but is 15m (the default)",
        ),
        (
            "stages.0.deadline",
            "1m",
            "stages[0].deadline must be at least the stage's minimum (2m), but is 1m",
        ),
        ("stages.0.approval", True, "stages[0].approval must be required, or left out, but is true"),
        (
            "stages.2.approval",
            "required",
            "stages[2].approval must be left out at weight 100, after which no weight comes, but is required",
        ),
        ("mode", "watch", "mode must be 'steer' or 'observe', but is 'watch'"),
        ("mode", None, "mode must have a value or be left out, but is empty"),
        (
            "service",
            None,
            "service must have a value, but is empty; wanted: The service and the labels of its Deployments.",
        ),
        ("stages.0.weight", None, "stages[0].weight must have a value or be left out, but is empty"),
        (
            "service.selector",
            {"app": None},
            "service.selector.app must have a value or be left out, but is empty",
        ),
        (
            "servce",
            None,
            "servce is not known here, wanted one of version, service, route, strategy, stages, mode, analysis, schedule, rollback, promotion, drift, bracket, hooks (did you mean service?)",
        ),
        (
            "servce",
            {"name": None},
            "servce is not known here, wanted one of version, service, route, strategy, stages, mode, analysis, schedule, rollback, promotion, drift, bracket, hooks (did you mean service?)",
        ),
        (
            "analysis.interval",
            "1.5s",
            "analysis.interval must be at least one second, in whole seconds, but is 1s500ms",
        ),
        (
            "analysis.interval",
            "0s",
            "analysis.interval must be at least one second, in whole seconds, but is 0s",
        ),
        (
            "analysis.falseRollbackRisk",
            0.01,
            "analysis.falseRollbackRisk must be a share such as 0.1% or 25%, but is 0.01: write 1% or 0.01%",
        ),
        (
            "analysis.falseRollbackRisk",
            "0%",
            "analysis.falseRollbackRisk must be above 0% and below 50%, but is 0%",
        ),
        (
            "analysis.badAdvanceRisk",
            "50%",
            "analysis.badAdvanceRisk must be above 0% and below 50%, but is 50%",
        ),
        ("analysis.metrics", [], "analysis.metrics must have at least 1 entry, but has 0"),
        (
            "analysis.metrics",
            [{}],
            "analysis.metrics[0] must have one key of errors, latency and query, but has 0",
        ),
        (
            "analysis.metrics",
            [{"errors": {}, "latency": {}}],
            "analysis.metrics[0] must have one key of errors, latency and query, but has 2",
        ),
        (
            "analysis.metrics",
            [{"errors": {}}, {"errors": {}}],
            "analysis.metrics[1] must be listed only once, but errors is listed twice",
        ),
        (
            "analysis.metrics",
            [{"query": {"name": name, "promql": "x", "max": 1, "dryRun": True}} for name in ("cpu", "heap")],
            "analysis.metrics must have a metric that decides, but all have dryRun",
        ),
        (
            "analysis.metrics",
            [{"errors": {"max": None}}],
            "analysis.metrics[0].errors.max must have a value or be left out, but is empty",
        ),
        (
            "analysis.metrics",
            [{"errors": {"max": "101%"}}],
            "analysis.metrics[0].errors.max must be at most 100%, but is 101%",
        ),
        (
            "analysis.metrics",
            [{"errors": {"toleratedRatio": "100%"}}],
            "analysis.metrics[0].errors.unacceptableRatio must be above toleratedRatio (100%), but is 100%",
        ),
        (
            "analysis.metrics",
            [{"errors": {"unacceptableIncrease": "0.05%"}}],
            "analysis.metrics[0].errors.unacceptableIncrease must be above toleratedIncrease (0.1%), but is 0.05%",
        ),
        (
            "analysis.metrics",
            [{"latency": {"unacceptable": "5%"}}],
            "analysis.metrics[0].latency.unacceptable must be above tolerated (10%), but is 5%",
        ),
        (
            "analysis.metrics",
            [{"latency": {"slo": {"p100": "1s"}}}],
            "analysis.metrics[0].latency.slo.p100 must be named after a quantile such as p50, p99 or p99.9, but is 'p100'",
        ),
        (
            "analysis.metrics",
            [{"latency": {"slo": {"p99": 500}}}],
            "analysis.metrics[0].latency.slo.p99 must be a duration such as 90s, 10m or 1h30m, but is 500: write 500ms or 500s, whichever is meant",
        ),
        (
            "analysis.metrics",
            [{"latency": {"slo": {"p99": "0.5"}}}],
            "analysis.metrics[0].latency.slo.p99 must be a duration such as 90s, 10m or 1h30m, but is '0.5': write 0.5ms or 0.5s, whichever is meant",
        ),
        (
            "analysis.metrics",
            [{"latency": {"slo": {"p99": "0s"}}}],
            "analysis.metrics[0].latency.slo.p99 must be above 0s, but is 0s",
        ),
        (
            "analysis.metrics",
            [{"query": {"name": "cpu", "promql": "x"}}],
            "analysis.metrics[0].query must have at least one of max, min and compare, but has none",
        ),
        (
            "analysis.metrics",
            [{"query": {"name": "cpu", "promql": "x", "max": 1, "min": 2}}],
            "analysis.metrics[0].query.min must be at most max (1), but is 2",
        ),
        (
            "analysis.metrics",
            [{"query": {"name": "cpu", "promql": "x", "max": float("inf")}}],
            "analysis.metrics[0].query.max must be a finite number, but is inf",
        ),
        (
            "analysis.metrics",
            [{"query": {"name": "cpu", "promql": "x", "compare": "higher-is-worse"}}],
            "analysis.metrics[0].query.promql must have $canary_pods, which is replaced by stable's pods for the comparison, but does not have it",
        ),
        (
            "analysis.metrics",
            [
                {
                    "query": {
                        "name": "cpu",
                        "promql": "x{pod=~'$canary_pods'} - x{pod=~'$stable_pods'}",
                        "compare": "lower-is-worse",
                    }
                }
            ],
            "analysis.metrics[0].query.promql must not have $stable_pods, which `compare` puts in place of $canary_pods, but has it",
        ),
        (
            "analysis.metrics",
            [
                {
                    "query": {
                        "name": "cpu",
                        "promql": "$canary_pods",
                        "compare": "lower-is-worse",
                        "tolerated": "100%",
                    }
                }
            ],
            "analysis.metrics[0].query.tolerated must be below 100% where lower is worse, but is 100%",
        ),
        (
            "analysis.metrics",
            [{"query": {"name": "cpu", "promql": "x", "max": 1, "tolerated": "5%"}}],
            "analysis.metrics[0].query.tolerated must be set only with compare, but is 5% without it",
        ),
        (
            "analysis.metrics",
            [{"query": {"name": "cpu", "promql": "x{pod=~'$canary_pod'}", "max": 1}}],
            "analysis.metrics[0].query.promql may have $ only in $canary_pods, $stable_pods, $namespace, $window, but has $canary_pod",
        ),
        ("analysis.minimumRequests", -1, "analysis.minimumRequests must be at least 0, but is -1"),
        (
            "analysis.noDataFor",
            "5s",
            "analysis.noDataFor must be at least one look (interval, 15s), but is 5s",
        ),
        (
            "schedule.deadline",
            "5m",
            "schedule.deadline must be at least the sum of the stages' minimums (6m), but is 5m",
        ),
        ("rollback.after", "5m", "rollback.after must be set only with scaleCanaryTo, but is 5m without it"),
        ("rollback.scaleCanaryTo", -1, "rollback.scaleCanaryTo must be at least 0, but is -1"),
        (
            "promotion.retireStable",
            {"after": "1h"},
            "promotion.retireStable.scaleTo is missing, wanted: Replicas of the old stable version after a promotion.",
        ),
        (
            "hooks",
            [{"on": "held", "notify": "a"}],
            "hooks[0].on must be a list, such as [a, b], but is 'held'",
        ),
        ("hooks", [{"on": [], "notify": "a"}], "hooks[0].on must have at least 1 entry, but has 0"),
        (
            "hooks",
            [{"on": ["held", "held"], "notify": "a"}],
            "hooks[0].on[1] must be listed only once, but held is listed twice",
        ),
        (
            "servce",
            {},
            "servce is not known here, wanted one of version, service, route, strategy, stages, mode, analysis, schedule, rollback, promotion, drift, bracket, hooks (did you mean service?)",
        ),
        (
            "service.version_label",
            "v",
            "service.version_label is not known here, wanted one of name, namespace, selector, versionLabel (did you mean versionLabel?)",
        ),
    ],
)
def test_nonsense_is_refused_once_by_key_with_what_was_wanted_and_what_came(
    path: str, value: Any, refusal: str
) -> None:
    assert refusals(put(path, value)()) == [refusal]


ONE_ROUTE = "must be left out where virtualService is set: a policy steers one of them, but is shop"
NEITHER = "is missing, wanted: the Istio VirtualService that routes to this service (or httpRoute: the HTTPRoute that does)"
NO_USE = "must be left out where"


@pytest.mark.parametrize(
    ("route", "refused"),
    [
        ({"virtualService": "sockshop", "httpRoute": "shop"}, [f"route.httpRoute {ONE_ROUTE}"]),
        ({}, [f"route.virtualService {NEITHER}"]),
        ({"addService": True}, [f"route.virtualService {NEITHER}"]),
        (
            {"httpRoute": "shop", "destinationRule": "fe", "addSubset": True, "http": ["web"]},
            [
                f"route.destinationRule {NO_USE} httpRoute is set, which does not use it, but is 'fe'",
                f"route.addSubset {NO_USE} httpRoute is set, which does not use it, but is true",
                f"route.http {NO_USE} httpRoute is set, which does not use it, but is a list of 1",
            ],
        ),
        (
            {"virtualService": "sockshop", "addService": False, "rules": ["web"]},
            [
                f"route.addService {NO_USE} virtualService is set, which does not use it, but is false",
                f"route.rules {NO_USE} virtualService is set, which does not use it, but is a list of 1",
            ],
        ),
        (
            {"httpRoute": "shop_1"},
            [
                "route.httpRoute must be a Kubernetes name (lower-case letters, digits, - and ., at most 253), but is 'shop_1'"
            ],
        ),
        (
            {"httpRoute": "shop", "rules": ["a", "a"]},
            ["route.rules[1] must be listed only once, but a is listed twice"],
        ),
        (
            {"httpRoute": "shop", "addService": "yes"},
            ["route.addService must be true or false, but is 'yes'"],
        ),
    ],
)
def test_a_policy_steers_one_route_with_that_route_s_own_keys(
    route: dict[str, Any], refused: list[str]
) -> None:
    assert refusals(changed(route=route)) == refused


def test_an_httproute_s_policy_has_its_own_defaults_and_comes_back_from_a_dump() -> None:
    policy = Policy.load(changed(route={"httpRoute": "shop"}))
    assert (policy.route.name, policy.route.add_service, policy.route.rules) == ("shop", True, ())
    assert policy.dump()["route"] == {"httpRoute": "shop", "addService": True, "rules": []}
    assert Policy.load(json.loads(json.dumps(policy.dump()))) == policy
    assert Policy.load(written()).dump()["route"].keys() == {
        "virtualService",
        "destinationRule",
        "addSubset",
        "http",
    }
    assert Policy.load(written()).route.name == "sockshop"


@pytest.mark.parametrize(
    "deciding", [{"errors": {}}, {"latency": {}}, {"query": {"name": "heap", "promql": "x", "min": 1}}]
)
def test_one_metric_that_decides_is_enough_beside_dry_runs(deciding: dict[str, Any]) -> None:
    dry = {"query": {"name": "cpu", "promql": "x", "max": 1, "dryRun": True}}
    metrics = Policy.load(changed(analysis={"metrics": [dry, deciding]})).analysis.metrics
    assert [metric.decides for metric in metrics] == [False, True]


@pytest.mark.parametrize(
    ("path", "value", "keys"),
    [
        ("schedule.freeze", ["Fri 16:00-Mon 08:00"], ["schedule.freeze"]),
        ("schedule.freeze", None, ["schedule.freeze"]),
    ],
)
def test_keys_of_later_work_are_refused_as_not_supported_yet(path: str, value: Any, keys: list[str]) -> None:
    found = refusals(put(path, value)())
    assert len(found) == len(keys)
    for refusal, key in zip(found, keys, strict=True):
        assert refusal.startswith(f"{key} is not supported yet: ")


def test_all_that_is_wrong_is_told_at_once() -> None:
    data = changed(
        stages=[{"weight": 25, "minimum": 5}, {"weight": 10, "deadline": "x"}], mode="watch", drift=3, extra=1
    )
    assert [refusal.split(" ")[0] for refusal in refusals(data)] == [
        "stages[0].minimum",
        "stages[1].deadline",
        "mode",
        "drift",
        "extra",
    ]


@pytest.mark.parametrize("data", [None, [], "policy", 3])
def test_what_is_no_map_is_refused(data: object) -> None:
    (refusal,) = refusals(data)
    assert refusal.startswith("must be a map of keys and values, but is ")


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("UNAVAILBLE", ": is UNAVAILABLE meant?"),
        ("unavailable", ": is UNAVAILABLE meant?"),
        ("14", ": write UNAVAILABLE"),
        ("17", "'17'"),
    ],
)
def test_a_grpc_status_that_is_mistyped_is_refused_with_the_list_and_what_is_meant(
    wrong: str, hint: str
) -> None:
    [problem] = refusals(changed(analysis={"metrics": [{"errors": {"grpcFailures": [wrong]}}]}))
    assert "must be a gRPC status other than OK (CANCELLED, UNKNOWN" in problem
    assert problem.endswith(hint)


def test_http_failures_are_codes_and_classes_written_as_text_or_number() -> None:
    policy = Policy.load(changed(analysis={"metrics": [{"errors": {"httpFailures": ["5xx", 429, "0"]}}]}))
    assert policy.analysis.errors is not None
    assert policy.analysis.errors.http_failures == ("5xx", "429", "0")
    assert Policy.load(policy.dump()) == policy
    assert Errors().http_failures == ("5xx",)


@pytest.mark.parametrize("wrong", ["5XX", "500s", 600, 50, "xx", "", True, -1, "4x4", 5.0])
def test_what_is_no_response_code_is_refused(wrong: object) -> None:
    [problem] = refusals(changed(analysis={"metrics": [{"errors": {"httpFailures": ["5xx", wrong]}}]}))
    assert problem.startswith("analysis.metrics[0].errors.httpFailures[1] must be")


def test_http_failures_must_have_one_and_each_once() -> None:
    for wrong in ([], ["5xx", "5xx"], [429, "429"]):
        [problem] = refusals(changed(analysis={"metrics": [{"errors": {"httpFailures": wrong}}]}))
        assert problem.startswith("analysis.metrics[0].errors.httpFailures")


def test_a_waypoint_may_be_the_reporter_and_nobody_else() -> None:
    assert Policy.load(changed(analysis={"reporter": "waypoint"})).analysis.reporter == "waypoint"
    [problem] = refusals(changed(analysis={"reporter": "ztunnel"}))
    assert "waypoint" in problem


def test_wrong_grpc_statuses_are_refused_one_by_one() -> None:
    found = refusals(
        changed(analysis={"metrics": [{"errors": {"grpcFailures": ["OK", "INTERNAL", "BROKEN"]}}]})
    )
    assert [refusal.split(" must be a gRPC status")[0] for refusal in found] == [
        "analysis.metrics[0].errors.grpcFailures[0]",
        "analysis.metrics[0].errors.grpcFailures[2]",
    ]


def test_code_gives_plain_numbers_where_people_give_units() -> None:
    assert Stage(weight=10, minimum=90, deadline=100.5).minimum == 90.0
    assert Analysis(interval=5, false_rollback_risk=0.02).interval == 5
    with pytest.raises(ValidationError, match="whole seconds"):
        Analysis(interval=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Stage(weight=10, minimum=float("nan"))


def test_a_dump_writes_every_default_out_with_units() -> None:
    dump = Policy.load(written()).dump()
    assert dump["version"] == 1
    assert dump["stages"][0] == {"weight": 10, "minimum": "2m", "deadline": "15m"}
    assert dump["analysis"]["falseRollbackRisk"] == "1%"
    assert dump["analysis"]["metrics"][1] == {
        "latency": {"tolerated": "10%", "unacceptable": "25%", "slo": {}, "absolute": False}
    }
    assert dump["route"]["destinationRule"] == "front-end"


@pytest.mark.parametrize(("metric", "limit"), [("errors", "max"), ("latency", "slo")])
def test_a_limit_can_only_be_absolute_where_there_is_one(metric: str, limit: str) -> None:
    data = written()
    data["analysis"] = {"metrics": [{metric: {"absolute": True}}]}
    with pytest.raises(InvalidPolicy) as refused:
        Policy.load(data)
    says = f"analysis.metrics[0].{metric}.absolute must be set with {limit}, but is true without it"
    assert says in str(refused.value)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    weights = sorted(draw(st.sets(st.integers(1, 99), max_size=5)))
    shares = st.floats(1e-6, 0.4)
    minimums = st.floats(60, 600)
    tolerated = draw(shares)
    metrics = [
        Metric(
            errors=Errors(
                tolerated_ratio=tolerated,
                unacceptable_ratio=tolerated * 2 + 0.1,
                max=draw(st.none() | shares),
            )
        )
    ]
    if draw(st.booleans()):
        metrics.append(
            Metric(
                latency=Latency(
                    slo=draw(st.dictionaries(st.sampled_from(["p50", "p99", "p99.9"]), st.floats(0.001, 60)))
                )
            )
        )
    if draw(st.booleans()):
        metrics.append(
            Metric(
                query=Query(
                    name="cpu", promql="x", min=draw(st.floats(-1e6, 1e6)), for_=draw(st.integers(1, 9))
                )
            )
        )
    stages = [
        Stage(
            weight=weight,
            minimum=draw(minimums),
            deadline=draw(st.floats(600, 9e4)),
            approval=draw(st.booleans()),
        )
        for weight in weights
    ]
    return Policy(
        service=ServiceReference(name="front-end", namespace="production", selector={"app": "front-end"}),
        route=draw(
            st.sampled_from(
                [
                    RouteReference(virtual_service="sockshop"),
                    RouteReference(http_route="shop", rules=("a",), add_service=False),
                ]
            )
        ),
        stages=(*stages, Stage(weight=100)),
        analysis=Analysis(
            interval=draw(st.integers(1, 60)), false_rollback_risk=draw(shares), metrics=tuple(metrics)
        ),
        hooks=tuple(
            Hook(on=(event,), notify="oncall")
            for event in draw(st.lists(st.sampled_from(EVENTS), max_size=3))
        ),  # type: ignore[arg-type]
    )


@given(policies())
def test_a_dumped_policy_comes_back_equal_through_json(policy: Policy) -> None:
    assert Policy.load(json.loads(json.dumps(policy.dump()))) == policy


def test_a_record_of_a_newer_canaryd_is_refused_by_key() -> None:
    dump = Policy.load(written()).dump()
    dump["analysis"]["sharpness"] = "high"
    (refusal,) = refusals(dump)
    assert refusal.startswith("analysis.sharpness is not known here")


def test_a_compared_query_is_asked_of_both_versions_and_a_plain_one_of_the_canary() -> None:
    text = 'max(x{pod=~"$canary_pods", namespace="$namespace"})'
    compared = Query(name="cpu", promql=text, compare="higher-is-worse")
    plain = Query(name="heap", promql=text, max=1.0)
    assert compared.asked == {
        "cpu": text,
        "cpu of stable": 'max(x{pod=~"$stable_pods", namespace="$namespace"})',
    }
    assert plain.asked == {"heap": text}
    analysis = Analysis(metrics=(Metric(query=plain), Metric(query=compared)))
    assert analysis.asked == (text, compared.of_stable)
    assert analysis.asked_before == (compared.of_stable,)
    assert (compared.tolerated, compared.dry_run) == (0.1, False)

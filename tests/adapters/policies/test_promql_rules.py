"""What a policy's PromQL is refused for, by its syntax tree."""

import pytest

from canaryd.adapters.policies.promql_rules import refusal

CANARY = 'x{pod=~"$canary_pods"}'


@pytest.mark.parametrize(
    "promql",
    [
        f"max({CANARY})",
        'sum(rate(x{pod=~"$canary_pods"}[$window])) / sum(rate(y{pod=~"$canary_pods"}[$window]))',
        'sum(x{pod=~"$canary_pods"}) - sum(x{pod=~"$stable_pods"})',
        'sum(x{namespace="$namespace"}) or vector(0)',
        'histogram_quantile(0.9, sum by (le) (rate(x_bucket{namespace="$namespace"}[$window])))',
        'max_over_time(sum(x{namespace="production"})[5m:1m])',
        'scalar(x{destination_workload_namespace="$namespace"})',
        'time() - max(x{exported_namespace="production"})',
        f"absent({CANARY})",
        f"topk(1, {CANARY})",
        f"sum by () ({CANARY})",
        f"sum({CANARY} offset 1h)",
        # may be one number: it shows when it is asked
        f'{CANARY} / on () group_left () sum(y{{namespace="production"}})',
        'sum(x{namespace="$namespace" or pod=~"$canary_pods"})',
        'label_replace(sum(x{namespace="$namespace"}), "a", "$1", "b", "(.*)")',
    ],
)
def test_a_query_about_the_rollout_that_answers_one_number_may_be_asked(promql: str) -> None:
    assert refusal(promql) == ""


@pytest.mark.parametrize(
    ("promql", "shown"),
    [
        (CANARY, CANARY),
        (f"rate({CANARY[:-1]}}}[5m])", 'rate(x{pod=~"$canary_pods"}[5m])'),
        (f"sum by (pod) ({CANARY})", f"sum by (pod)({CANARY})"),
        (f"sum without (a) ({CANARY})", f"sum without (a)({CANARY})"),
        (f"topk(3, {CANARY})", f"topk(3, {CANARY})"),
        (f"-({CANARY})", f"-({CANARY})"),
        (f"{CANARY} > 1", f"{CANARY} > 1"),
        (f"{CANARY} / {CANARY}", f"{CANARY} / {CANARY}"),
        (f"sum({CANARY}) or {CANARY}", f"sum({CANARY}) or  {CANARY}"),
        (f"abs({CANARY})", f"abs({CANARY})"),
        (
            f"histogram_quantile(0.9, sum by (le, pod) ({CANARY}))",
            f"histogram_quantile(0.9, sum by (le, pod)({CANARY}))",
        ),
        (f"histogram_quantile(0.9, {CANARY})", f"histogram_quantile(0.9, {CANARY})"),
        (f"max_over_time({CANARY}[5m:1m])", f"max_over_time({CANARY}[5m:1m])"),
    ],
)
def test_what_may_answer_several_series_is_refused_with_what_to_do(promql: str, shown: str) -> None:
    assert (
        refusal(promql)
        == "must return one number, but may return one for each series: aggregate it, as in max(...): "
        f"{shown}"
    )


@pytest.mark.parametrize(
    ("promql", "selector"),
    [
        ("sum(x)", "x"),
        ('sum(x{pod!~"$canary_pods"})', 'x{pod!~"$canary_pods"}'),
        ('sum(x{namespace!="kube-system"})', 'x{namespace!="kube-system"}'),
        ('sum(x{namespace=~".+"})', 'x{namespace=~".+"}'),
        ('sum(x{namespace=""})', 'x{namespace=""}'),
        ('sum(x{app="front-end"})', 'x{app="front-end"}'),
        (f'sum({CANARY}) / sum(y{{job="a"}})', 'y{job="a"}'),
        ("sum(rate(x[5m]))", "x"),
        ('sum(x{namespace="$namespace" or app="a"})', 'x{ or namespace="$namespace" or app="a"}'),
    ],
)
def test_a_selector_that_takes_in_the_whole_cluster_is_refused_by_name(promql: str, selector: str) -> None:
    wanted = 'pod=~"$canary_pods", pod=~"$stable_pods" or namespace="$namespace"'
    assert (
        refusal(promql)
        == f"must be about this rollout in every selector ({wanted}), but selects the whole cluster: "
        f"{selector}"
    )


@pytest.mark.parametrize(
    ("promql", "says"),
    [
        ("sum(x", "must be PromQL, but is not: unclosed left parenthesis"),
        (
            "x[5m]",
            "must return one number, but is a range vector: put a function such as rate(...) around it",
        ),
        (
            "x[5m:1m]",
            "must return one number, but is a range vector: put a function such as rate(...) around it",
        ),
        ('"x"', "must return one number, but is text"),
        ("1", "must be about this rollout, but selects no series"),
        ("vector(time())", "must be about this rollout, but selects no series"),
        (
            'sum(x{namespace="a"} @ end())',
            'must be evaluated at the end of each look, without @, but has it: x{namespace="a"} @ end()',
        ),
        (
            'max(rate(x{namespace="a"}[5m] @ 1000))',
            'must be evaluated at the end of each look, without @, but has it: x{namespace="a"} @ 1000.000',
        ),
        (
            'sum(x{namespace="a"} offset -5m)',
            "must not read beyond the end of the look, but has a negative offset: "
            'x{namespace="a"} offset -5m',
        ),
    ],
)
def test_what_cannot_work_is_refused(promql: str, says: str) -> None:
    assert refusal(promql) == says


def test_what_is_compared_must_select_the_canary_s_pods() -> None:
    wanted = (
        "must select the canary's pods (pod=~\"$canary_pods\"), which are replaced by stable's for the "
        "comparison, but does not"
    )
    assert refusal('sum(x{namespace="$namespace"})', compared=True) == wanted
    assert refusal('sum(x{namespace="$namespace", pod!~"$canary_pods"})', compared=True) == wanted
    assert refusal(f'sum({CANARY}) / sum(y{{namespace="$namespace"}})', compared=True) == ""

"""What canaryd relies on of Prometheus' HTTP API, asked of the sandbox's and of a real one.

Both scrape the job `istio` once a second. Windows end between two scrapes here: whether their left edge
belongs to them differs between Prometheus 2 and 3, and canaryd must not care.
"""

from __future__ import annotations

import pytest

from tests.contract.conftest import Prometheus


def between(api: Prometheus) -> float:
    """A moment a quarter of a second after a scrape, some seconds ago."""
    values = api.result('up{job="istio"}[8s]')[0]["values"]
    return float(values[-3][0]) + 0.25


def test_values_are_strings_and_times_are_numbers(prometheus_api: Prometheus) -> None:
    (row,) = prometheus_api.result('up{job="istio"}')
    assert row["metric"]["__name__"] == "up"
    assert row["value"][1] == "1"
    assert row["value"][0] == pytest.approx(prometheus_api.at, abs=0.001)


def test_no_data_is_an_empty_result(prometheus_api: Prometheus) -> None:
    for query in (
        "nobody_counts_this_total",
        "sum by (pod) (last_over_time(nobody_counts_this_total[10s]))",
        'up{job="nobody"}[10s]',
        'count by (job) (up{job="nobody"})',
    ):
        assert prometheus_api.result(query) == []


def test_a_raw_window_holds_each_scrape_once(prometheus_api: Prometheus) -> None:
    at = between(prometheus_api)
    code, body = prometheus_api.get("query", query='up{job="istio"}[3s]', time=at)
    assert (code, body["data"]["resultType"]) == (200, "matrix")
    times = [float(t) for t, _ in body["data"]["result"][0]["values"]]
    assert len(times) == 3
    assert times == sorted(times)
    assert all(at - 3 < t <= at for t in times)


def test_a_window_takes_in_its_right_edge(prometheus_api: Prometheus) -> None:
    at = between(prometheus_api) - 0.25
    times = [float(t) for t, _ in prometheus_api.result('up{job="istio"}[500ms]', at)[0]["values"]]
    assert times == [pytest.approx(at, abs=0.0005)]


def test_last_over_time_is_empty_where_the_window_is(prometheus_api: Prometheus) -> None:
    at = between(prometheus_api)
    assert prometheus_api.result('sum by (job) (last_over_time(up{job="istio"}[100ms]))', at) == []
    assert prometheus_api.result('sum by (job) (last_over_time(up{job="istio"}[1s]))', at) == [
        {"metric": {"job": "istio"}, "value": [pytest.approx(at, abs=0.001), "1"]}
    ]


def test_copies_of_a_series_are_merged_to_the_largest_and_then_summed(prometheus_api: Prometheus) -> None:
    at = between(prometheus_api)
    found = prometheus_api.result(
        'sum by (job) (max without (instance, nothing) (last_over_time(up{job="istio"}[1s])))', at
    )
    assert found == [{"metric": {"job": "istio"}, "value": [pytest.approx(at, abs=0.001), "1"]}]


def test_series_are_counted_by_a_label_and_those_without_it_together(prometheus_api: Prometheus) -> None:
    at = between(prometheus_api)
    found = prometheus_api.result('count by (job) (last_over_time(up{job="istio"}[30s]))', at)
    assert found == [{"metric": {"job": "istio"}, "value": [pytest.approx(at, abs=0.001), "1"]}]
    found = prometheus_api.result('count by (reporter) (last_over_time(up{job="istio"}[30s]))', at)
    assert found == [{"metric": {}, "value": [pytest.approx(at, abs=0.001), "1"]}]


def test_a_range_query_has_a_value_for_each_step_from_the_start(prometheus_api: Prometheus) -> None:
    at = between(prometheus_api)
    query = 'sum by (job) (last_over_time(up{job="istio"}[2s]))'
    code, body = prometheus_api.get("query_range", query=query, start=at - 2, end=at, step="1")
    assert (code, body["data"]["resultType"]) == (200, "matrix")
    (row,) = body["data"]["result"]
    assert row["metric"] == {"job": "istio"}
    assert [float(t) for t, _ in row["values"]] == pytest.approx([at - 2, at - 1, at], abs=0.001)
    assert {value for _, value in row["values"]} == {"1"}


def test_a_posted_form_gets_the_answer_of_a_get(prometheus_api: Prometheus) -> None:
    at = between(prometheus_api)
    for endpoint, parameters in (
        ("query", {"time": at}),
        ("query_range", {"start": at - 2, "end": at, "step": "1s"}),
    ):
        query = 'count by (job, nothing) (up{job=~"ist.*",job!~"x|y",instance!=""})'
        assert prometheus_api.post(endpoint, query=query, **parameters) == prometheus_api.get(
            endpoint, query=query, **parameters
        )
    assert prometheus_api.result(query, at)[0]["metric"] == {"job": "istio"}


def test_patterns_match_whole_values(prometheus_api: Prometheus) -> None:
    assert prometheus_api.result('up{job=~"isti"}') == []
    assert len(prometheus_api.result('up{job=~"isti."}')) == 1


def test_a_label_that_is_missing_equals_the_empty_one(prometheus_api: Prometheus) -> None:
    assert len(prometheus_api.result('up{job="istio",nothing=""}')) == 1
    assert prometheus_api.result('up{job="istio",nothing!=""}') == []


@pytest.mark.parametrize("query", ["sum(", "up{", 'up{job=~"("}', ""])
def test_what_is_no_promql_is_bad_data(prometheus_api: Prometheus, query: str) -> None:
    code, body = prometheus_api.get("query", query=query, time=prometheus_api.at)
    assert (code, body["status"], body["errorType"]) == (400, "error", "bad_data")
    assert body["error"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"start": "x", "end": 10, "step": 1},
        {"start": 10, "end": 5, "step": 1},
        {"start": 1, "end": 10, "step": 0},
        {"start": 1, "end": 10, "step": "1 s"},
        {"start": 0, "end": 20000, "step": 1},
    ],
    ids=["no time", "end before start", "no step", "no duration", "too many points"],
)
def test_a_range_that_makes_no_sense_is_bad_data(
    prometheus_api: Prometheus, parameters: dict[str, object]
) -> None:
    code, body = prometheus_api.get("query_range", query="up", **parameters)
    assert (code, body["errorType"]) == (400, "bad_data")


def test_a_raw_window_has_no_place_in_a_range_query(prometheus_api: Prometheus) -> None:
    code, body = prometheus_api.get("query_range", query="up[5s]", start=1, end=10, step=1)
    assert (code, body["errorType"]) == (400, "bad_data")


def test_the_version_can_be_asked(prometheus_api: Prometheus) -> None:
    code, body = prometheus_api.get("status/buildinfo")
    assert (code, body["status"]) == (200, "success")
    assert body["data"]["version"]


def test_the_names_of_labels_can_be_asked(prometheus_api: Prometheus) -> None:
    code, body = prometheus_api.get("labels")
    assert code == 200
    assert {"__name__", "job", "instance"} <= set(body["data"])


def test_an_instant_query_of_a_window_answers_a_matrix_and_any_other_a_vector(
    prometheus_api: Prometheus,
) -> None:
    _, window = prometheus_api.post("query", query="up[10s]", time=prometheus_api.at)
    _, instant = prometheus_api.post(
        "query", query="count by (job) (last_over_time(up[10s]))", time=prometheus_api.at
    )
    assert (window["data"]["resultType"], instant["data"]["resultType"]) == ("matrix", "vector")
    assert len(window["data"]["result"][0]["values"]) >= 3
    assert instant["data"]["result"][0]["value"][1] == "1"

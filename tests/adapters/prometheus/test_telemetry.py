"""The Prometheus adapter's HTTP and queries, against a small server of the tests. Its counts:
test_telemetry_counts.py."""

import base64
import json
import math
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import trustme

from canaryd.adapters.prometheus.api import PrometheusAccess
from canaryd.adapters.prometheus.telemetry import (
    MOST_POINTS,
    RUN_UP,
    PrometheusTelemetry,
    count_of,
    fill,
    points_of,
    resolution,
)
from canaryd.domain.counts import Look, Source, Target
from canaryd.domain.ports import Rejected, Unavailable

NAMESPACE = "production"
TARGET = Target(NAMESPACE, ("front-end-v1",), ("front-end-v2",), since=1_700_000_000)
EMPTY = {"status": "success", "data": {"resultType": "matrix", "result": []}}


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it. form: what came in the body."""

    method: str
    path: str
    headers: Mapping[str, str]
    form: Mapping[str, str]


@dataclass
class Stub:
    """A Prometheus that answers what it is told to. answer: from a request to an HTTP status and a body."""

    url: str = ""
    answer: Callable[[Asked], tuple[int, Any]] = lambda asked: (200, EMPTY)
    asked: list[Asked] = field(default_factory=list)

    def says(self, status: int, body: Any) -> None:
        self.answer = lambda asked: (status, body)


@contextmanager
def a_stub(context: ssl.SSLContext | None = None) -> Iterator[Stub]:
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            asked = Asked(
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                dict(parse_qsl(body)),
            )
            stub.asked.append(asked)
            status, answer = stub.answer(asked)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "https://login.example/")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = handle_any  # noqa: N815  # http.server's names  # http.server's names

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that gave up, or trusts nobody here, is what some tests are about; anything else is
            told."""
            if not isinstance(sys.exception(), OSError):
                super().handle_error(request, client_address)

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    stub.url = f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with a_stub() as one:
        yield one


def a_telemetry(stub: Stub, **access: Any) -> PrometheusTelemetry:
    return PrometheusTelemetry(
        PrometheusAccess(stub.url, **{"scrape_interval": 5.0, "timeout": 5.0} | access)
    )


def read(
    telemetry: PrometheusTelemetry, start: int = TARGET.since, end: int = TARGET.since + 10, step: int = 10
) -> list[Look]:
    return list(telemetry.read([TARGET], start, end, step)[TARGET])


# Getting in


def test_basic_auth_is_sent(stub: Stub) -> None:
    read(a_telemetry(stub, username="canaryd", password="s3cret"))
    assert {asked.headers["authorization"] for asked in stub.asked} == {
        "Basic " + base64.b64encode(b"canaryd:s3cret").decode()
    }


def test_a_rotated_bearer_token_is_taken_up(stub: Stub, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    telemetry = a_telemetry(stub, bearer_token_file=str(token))
    read(telemetry)
    token.write_text("second\n")
    read(telemetry)
    assert [asked.headers["authorization"] for asked in stub.asked][:: len(stub.asked) - 1] == [
        "Bearer first",
        "Bearer second",
    ]


def test_a_missing_bearer_token_is_told_by_its_path(stub: Stub, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"bearer_token_file .*/nowhere cannot be read"):
        read(a_telemetry(stub, bearer_token_file=str(tmp_path / "nowhere")))


def test_headers_for_tenants_are_sent(stub: Stub) -> None:
    read(a_telemetry(stub, headers={"X-Scope-OrgID": "shop"}))
    assert {asked.headers["x-scope-orgid"] for asked in stub.asked} == {"shop"}


def test_proxies_of_the_environment_do_not_apply(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert len(read(a_telemetry(stub))) == 1


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Stub]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with a_stub(context) as one:
        yield one


def test_tls_with_an_own_ca(secure: Stub, authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    assert len(read(a_telemetry(secure, ca_file=str(tmp_path / "ca.pem")))) == 1


def test_a_certificate_of_an_unknown_ca_is_rejected_with_a_hint(secure: Stub, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(Rejected, match=r"certificate not trusted \(is ca_file its CA\?\)"):
        read(a_telemetry(secure, ca_file=str(tmp_path / "other.pem")))
    assert secure.asked == []


def test_an_unknown_ca_is_accepted_where_that_is_asked_for(secure: Stub) -> None:
    assert len(read(a_telemetry(secure, insecure_skip_verify=True))) == 1


def test_a_ca_file_that_is_not_there_is_rejected_by_its_path(secure: Stub) -> None:
    with pytest.raises(Rejected, match=r"/nowhere/ca\.pem"):
        read(a_telemetry(secure, ca_file="/nowhere/ca.pem"))


def test_a_client_certificate_is_shown(authority: trustme.CA, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mine = authority.issue_cert("canaryd.example")
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    mine.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    with a_stub(context) as stub:
        files = {
            "ca_file": str(tmp_path / "ca.pem"),
            "cert_file": str(tmp_path / "cert.pem"),
            "key_file": str(tmp_path / "key.pem"),
        }
        assert len(read(a_telemetry(stub, **files))) == 1
        with pytest.raises(Unavailable):
            read(a_telemetry(stub, ca_file=files["ca_file"]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"username": "a", "bearer_token_file": "b"}, "either username and password or bearer_token_file"),
        ({"key_file": "key.pem"}, "key_file is key.pem, but cert_file"),
        ({"timeout": 0.0}, "above 0 s, but are 15 and 0"),
        ({"scrape_interval": -1.0}, "above 0 s, but are -1 and 10"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PrometheusAccess("http://127.0.0.1:9090", **settings)


def test_secrets_are_not_shown() -> None:
    shown = repr(
        PrometheusAccess(
            "http://127.0.0.1:9090", username="u", password="s3cret", headers={"X-Key": "hidden"}
        )
    )
    assert "s3cret" not in shown
    assert "hidden" not in shown


# What goes wrong


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_unavailable_and_asked_once(stub: Stub, status: int) -> None:
    stub.says(
        status,
        {"status": "error", "errorType": "timeout", "error": "query timed out in expression evaluation"},
    )
    with pytest.raises(Unavailable, match=f"HTTP {status}: query timed out in expression evaluation"):
        read(a_telemetry(stub))
    assert len(stub.asked) == 1


@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_query_is_rejected_in_prometheus_own_words(stub: Stub, status: int) -> None:
    stub.says(status, {"status": "error", "errorType": "bad_data", "error": "parse error: unexpected <by>"})
    with pytest.raises(Rejected, match="parse error: unexpected <by>"):
        read(a_telemetry(stub))


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "bearer_token_file"),
        (403, "may not query"),
        (404, "path prefix"),
        (405, "POST"),
        (302, "redirects to https://login.example/"),
    ],
)
def test_a_door_that_stays_shut_is_rejected_with_a_hint(stub: Stub, status: int, hint: str) -> None:
    stub.says(status, b"no")
    with pytest.raises(Rejected, match=hint):
        read(a_telemetry(stub))
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Sign in</html>",
        b'{"status": "success", "data": {"resultType": "matr',
        b"[]",
        b'{"status": "success"}',
        b'{"status": "success", "data": {"resultType": "matrix", "result": [{"values": [[1, "2"]]}]}}',
        b'{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "2"]}]}}',  # noqa: E501
        b'{"status": "error", "error": "?"}',
    ],
)
def test_a_broken_answer_is_unavailable(stub: Stub, body: bytes) -> None:
    stub.says(200, body)
    with pytest.raises(Unavailable, match="the answer is no"):
        read(a_telemetry(stub))


@pytest.mark.parametrize(
    "mark",
    [{"warnings": ["a store did not answer"]}, {"infos": ["partial response: 1 store"]}, {"isPartial": True}],
    ids=["warnings", "infos", "isPartial"],
)
def test_a_partial_answer_is_unavailable(stub: Stub, mark: dict[str, Any]) -> None:
    stub.says(200, EMPTY | mark)
    with pytest.raises(Unavailable, match="answered in part"):
        read(a_telemetry(stub))


def test_a_remark_on_the_query_is_no_partial_answer(stub: Stub) -> None:
    stub.says(200, EMPTY | {"infos": ["PromQL info: metric might not be a counter"], "warnings": []})
    assert len(read(a_telemetry(stub))) == 1


def test_an_answer_that_does_not_come_is_unavailable_in_time(stub: Stub) -> None:
    released = threading.Event()

    def hang(asked: Asked) -> tuple[int, Any]:
        released.wait(10)
        return 200, EMPTY

    stub.answer = hang
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"did not answer within 0.3 s"):
        read(a_telemetry(stub, timeout=0.3))
    assert time.monotonic() - begun < 2
    released.set()


def test_prometheus_is_told_to_stop_when_nobody_waits_any_more(stub: Stub) -> None:
    read(a_telemetry(stub, timeout=7.5))
    assert {asked.form["timeout"] for asked in stub.asked} == {"7.5"}


def test_a_refused_connection_is_unavailable() -> None:
    with a_stub() as gone:
        pass
    with pytest.raises(Unavailable, match=r"cannot be reached: .*[Cc]onnection refused"):
        read(a_telemetry(gone))


def test_a_password_in_the_address_is_not_told(stub: Stub) -> None:
    stub.says(503, b"")
    with pytest.raises(Unavailable) as raised:
        read(PrometheusTelemetry(PrometheusAccess(stub.url.replace("//", "//user:s3cret@"))))
    assert "s3cret" not in str(raised.value)


def test_an_address_that_is_none_is_rejected() -> None:
    with pytest.raises(Rejected, match="cannot be asked"):
        read(PrometheusTelemetry(PrometheusAccess("prometheus:9090")))


# What is asked


def test_the_three_queries(stub: Stub) -> None:
    since = TARGET.since
    read(a_telemetry(stub))
    which = 'reporter="destination", destination_workload_namespace="production", destination_workload=~"front-end-v1|front-end-v2"'  # noqa: E501
    once = (
        "max without (job, instance, endpoint, container, service, prometheus, prometheus_replica, replica)"
    )
    queries = [
        f"sum by (pod, destination_workload, response_code, grpc_response_status) ({once} "
        f"(last_over_time(istio_requests_total{{{which}}}[5s])))",
        f"sum by (pod, destination_workload, le) ({once} "
        f"(last_over_time(istio_request_duration_milliseconds_bucket{{{which}}}[5s])))",
        f"sum by (pod, destination_workload) ({once} "
        f"(last_over_time(istio_request_duration_milliseconds_sum{{{which}}}[5s])))",
    ]
    assert [asked.form["query"] for asked in stub.asked] == queries * 2
    assert {(asked.method, asked.path) for asked in stub.asked} == {("POST", "/api/v1/query_range")}
    assert [
        (int(asked.form["start"]), int(asked.form["end"]), asked.form["step"]) for asked in stub.asked
    ] == ([(since - RUN_UP + 5, since, "5")] * 3 + [(since + 5, since + 10, "5")] * 3)


def test_who_sends_is_one_query_from_before_the_stretch_on(stub: Stub) -> None:
    a_telemetry(stub).sources(TARGET, TARGET.since, TARGET.since + 60)
    [asked] = stub.asked
    assert asked.form["query"].startswith(
        "sum by (pod, destination_workload, source_workload, source_workload_namespace) (max without ("
    )
    assert int(asked.form["end"]) == TARGET.since + 60
    assert TARGET.since - 60 <= int(asked.form["start"]) < TARGET.since - 2 * int(asked.form["step"])


def test_callers_without_labels_have_no_name(stub: Stub) -> None:
    at = TARGET.since
    series = [
        {
            "metric": {"destination_workload": name, "pod": f"{name}-a"},
            "values": [[at - 20, "7"], [at + 10, growth]],
        }
        for name, growth in (("front-end-v1", "97"), ("front-end-v2", "17"))
    ]
    stub.says(200, {"status": "success", "data": {"resultType": "matrix", "result": series}})
    assert a_telemetry(stub).sources(TARGET, at, at + 10) == [Source("", "", 90, 10)]


def test_the_workloads_of_a_service_are_those_with_counters_in_the_past(stub: Stub) -> None:
    found = ("front-end-v2", "front-end-v1", "unknown", "")
    series = [{"metric": {"destination_workload": name}, "values": [[1_700_000_000, "7"]]} for name in found]
    stub.says(200, {"status": "success", "data": {"resultType": "matrix", "result": series}})
    names = a_telemetry(stub).workloads(NAMESPACE, "front-end", "destination", 1_700_000_000, 3600)
    assert names == ["front-end-v1", "front-end-v2"]
    which = 'reporter="destination", destination_workload_namespace="production", destination_service_name="front-end"'  # noqa: E501
    form = stub.asked[0].form
    assert (
        form["query"]
        == f"sum by (destination_workload) (last_over_time(istio_requests_total{{{which}}}[3600s]))"
    )
    assert (form["start"], form["end"]) == ("1700000000", "1700000000")


def test_versions_with_services_of_their_own_are_asked_for_by_these(stub: Stub) -> None:
    stub.says(200, {"status": "success", "data": {"resultType": "matrix", "result": []}})
    assert (
        a_telemetry(stub).workloads(
            NAMESPACE, "front-end", "destination", 1_700_000_000, 3600, has_version_services=True
        )
        == []
    )
    assert 'destination_service_name=~"front-end(-.+)?"' in stub.asked[0].form["query"]


def test_targets_of_one_namespace_and_reporter_share_their_queries(stub: Stub) -> None:
    others = [Target(NAMESPACE, (f"basket-v{number}",), (), TARGET.since) for number in range(300)]
    elsewhere = [
        Target("test", ("front-end-v1",), (), TARGET.since),
        Target(NAMESPACE, ("front-end-v1",), (), TARGET.since, reporter="source"),
    ]
    answer = a_telemetry(stub).read([TARGET, *others, *elsewhere], TARGET.since, TARGET.since + 10, 10)
    assert set(answer) == {TARGET, *others, *elsewhere}
    assert len(stub.asked) == 3 * 3 * 2
    assert 'destination_workload=~"basket-v0|basket-v1|' in stub.asked[0].form["query"]


def test_a_long_stretch_is_asked_for_in_parts_that_tile_it(stub: Stub) -> None:
    end = TARGET.since + 5 * MOST_POINTS * 2 + 50
    read(a_telemetry(stub), end=end)
    asked = [asked.form for asked in stub.asked if "requests_total" in asked.form["query"]][1:]
    times = [
        at for form in asked for at in range(int(form["start"]), int(form["end"]) + 1, int(form["step"]))
    ]
    assert times == list(range(TARGET.since + 5, end + 1, 5))
    assert [(int(form["end"]) - int(form["start"])) // 5 + 1 for form in asked] == [
        MOST_POINTS,
        MOST_POINTS,
        10,
    ]


def test_the_next_look_asks_only_for_itself(stub: Stub) -> None:
    telemetry, since = a_telemetry(stub), TARGET.since
    for number in range(3):
        read(telemetry, since + 10 * number, since + 10 * number + 10)
    stub.asked.clear()
    read(telemetry, since + 30, since + 40)
    assert [(int(asked.form["start"]), int(asked.form["end"])) for asked in stub.asked] == [
        (since + 35, since + 40)
    ] * 3


def test_a_look_asked_for_again_asks_only_for_itself(stub: Stub) -> None:
    telemetry, since = a_telemetry(stub), TARGET.since
    read(telemetry)
    stub.asked.clear()
    read(telemetry)
    assert [(int(asked.form["start"]), int(asked.form["end"])) for asked in stub.asked] == [
        (since + 5, since + 10)
    ] * 3


def test_what_lies_between_two_stretches_is_followed(stub: Stub) -> None:
    telemetry, since = a_telemetry(stub), TARGET.since
    read(telemetry)
    stub.asked.clear()
    read(telemetry, since + 22, since + 32)
    spans = [(int(asked.form["start"]), int(asked.form["end"])) for asked in stub.asked[::3]]
    assert spans == [(since + 12, since + 22), (since + 27, since + 32)]


def test_a_forgotten_ledger_is_built_anew(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry, since = a_telemetry(stub), TARGET.since
    other = Target(NAMESPACE, ("basket-v1",), (), since)
    read(telemetry)
    now = time.monotonic()
    monkeypatch.setattr("canaryd.adapters.prometheus.telemetry.time.monotonic", lambda: now + 3600)
    telemetry.read([other], since, since + 10, 10)
    stub.asked.clear()
    read(telemetry, since + 10, since + 20)
    assert int(stub.asked[0].form["start"]) < since


def test_looks_before_the_target_is_followed_are_refused(stub: Stub) -> None:
    with pytest.raises(ValueError, match=f"followed only since {TARGET.since}"):
        read(a_telemetry(stub), start=TARGET.since - 10)


@pytest.mark.parametrize("bad", ['front"end', "front end", "", "a|b"])
def test_a_name_that_kubernetes_would_not_have_is_no_part_of_a_query(stub: Stub, bad: str) -> None:
    with pytest.raises(Rejected, match="must be a Kubernetes name"):
        a_telemetry(stub).read(
            [Target(bad, ("front-end-v1",), (), TARGET.since)], TARGET.since, TARGET.since + 10, 10
        )


@pytest.mark.parametrize(
    ("step", "scrape_interval", "wanted"),
    [
        (10, 15, 10),
        (15, 15, 15),
        (30, 15, 15),
        (60, 15, 15),
        (20, 15, 10),
        (10, 3, 2),
        (7, 3, 1),
        (10, 0.5, 1),
        (1, 15, 1),
        (45, 20, 15),
    ],
)
def test_resolution_divides_the_step_and_is_no_longer_than_a_scrape(
    step: int, scrape_interval: float, wanted: int
) -> None:
    assert resolution(step, scrape_interval) == wanted


# What is read


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("123", 123),
        ("0", 0),
        ("1.23e+06", 1_230_000),
        ("9007199254740993", 9007199254740993),
        ("1e+21", 10**21),
        ("12.0", 12),
    ],
)
def test_counters_are_exact_integers(text: str, count: int) -> None:
    assert count_of(text, {}) == count


@pytest.mark.parametrize("text", ["NaN", "+Inf", "12.5", "-1", "", "twelve"])
def test_what_is_no_count_is_rejected(text: str) -> None:
    with pytest.raises(
        Rejected, match=r"a counter of pod front-end-v1-a must be a whole number, but Prometheus has"
    ):
        count_of(text, {"pod": "front-end-v1-a"})


def test_metrics_without_a_pod_label_are_rejected_with_what_to_do() -> None:
    with pytest.raises(Rejected, match="target_label: pod"):
        points_of([({"destination_workload": "front-end-v1"}, [(10.0, "1")])], [], [])


def test_a_bucket_without_a_bound_is_rejected() -> None:
    with pytest.raises(Rejected, match="le must be a number of milliseconds"):
        points_of([], [({"pod": "a", "destination_workload": "b"}, [(10.0, "1")])], [])


def test_bounds_are_numbers_however_they_are_written() -> None:
    labels = {"pod": "a", "destination_workload": "b"}
    points = points_of(
        [], [({**labels, "le": "10"}, [(10.0, "4")]), ({**labels, "le": "10.0"}, [(10.0, "5")])], []
    )
    assert points[10]["b", "a"].within == {10.0: 5}


# A policy's own query


def a_vector(*values: str, start: int = TARGET.since + 10) -> dict[str, Any]:
    points = [[start + 10 * index, value] for index, value in enumerate(values) if value]
    return {"metric": {"n": "x"}, "values": points}


def matrix(*series: dict[str, Any]) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "matrix", "result": list(series)}}


def measured(stub: Stub, promql: str = "up", target: Target = TARGET) -> list[float | None]:
    return list(a_telemetry(stub).measure(target, promql, TARGET.since, TARGET.since + 40, 10))


def test_a_query_is_measured_at_the_looks_ends(stub: Stub) -> None:
    stub.says(200, matrix(a_vector("0.25", "", "NaN", "+Inf")))
    assert measured(stub) == [0.25, None, None, math.inf]
    (asked,) = stub.asked
    assert (asked.form["start"], asked.form["end"], asked.form["step"]) == (
        str(TARGET.since + 10),
        str(TARGET.since + 40),
        "10",
    )


def test_several_series_are_rejected_by_their_number(stub: Stub) -> None:
    stub.says(200, matrix(a_vector("1"), a_vector("2"), a_vector("3")))
    with pytest.raises(Rejected, match=r"answers 3 series: aggregate them, as in max\(...\): up"):
        measured(stub)


def test_series_that_follow_each_other_are_one_number_each_time(stub: Stub) -> None:
    stub.says(200, matrix(a_vector("1", "2"), a_vector("", "", "3")))
    assert measured(stub) == [1.0, 2.0, 3.0, None]


def test_variables_are_filled_in() -> None:
    assert fill(
        'max(cpu{pod=~"$canary_pods",other!~"${stable_pods}",ns="$namespace"}[$window])', TARGET, 15
    ) == (
        'max(cpu{pod=~"front-end-v2-[a-z0-9]+-[a-z0-9]+",other!~"front-end-v1-[a-z0-9]+-[a-z0-9]+",ns="production"}[15s])'
    )


def test_dollars_that_belong_to_promql_stay() -> None:
    promql = 'label_replace(up, "a", "$1", "b", "(.*)$")'
    assert fill(promql, TARGET, 15) == promql


def test_a_dot_in_a_name_matches_a_dot_only() -> None:
    assert (
        fill("$stable_pods", Target("production", ("front.end",), (), 0), 10)
        == "front[.]end-[a-z0-9]+-[a-z0-9]+"
    )


def test_an_unknown_variable_is_rejected() -> None:
    with pytest.raises(
        Rejected,
        match=r"are \$canary_pods, \$stable_pods, \$namespace, \$service, \$window, but it has \$canary",
    ):
        fill('cpu{pod=~"$canary"}', TARGET, 10)


def test_pods_of_no_canary_have_no_value_and_are_not_asked_for(stub: Stub) -> None:
    assert (
        measured(
            stub, 'max(cpu{pod=~"$canary_pods"})', Target(NAMESPACE, ("front-end-v1",), (), TARGET.since)
        )
        == [None] * 4
    )
    assert stub.asked == []


# Readiness


def test_check_tells_prometheus_version(stub: Stub) -> None:
    stub.says(200, {"status": "success", "data": {"version": "2.42.0"}})
    assert a_telemetry(stub).check() == "2.42.0"


def test_check_asks_a_query_where_no_version_is_told(stub: Stub) -> None:
    stub.answer = lambda asked: (
        (404, b"404") if asked.method == "GET" else (200, {"status": "success", "data": {"result": []}})
    )
    assert a_telemetry(stub).check() == "unknown"
    assert stub.asked[-1].form["query"] == "vector(1)"


def test_check_is_unavailable_while_prometheus_starts(stub: Stub) -> None:
    stub.says(503, b"Service Unavailable")
    with pytest.raises(Unavailable, match="HTTP 503: Service Unavailable"):
        a_telemetry(stub).check()

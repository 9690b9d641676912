# ruff: noqa: E501  (a refusal stands on one line, as people read it)

"""The daemon's settings: defaults, overrides, refusals with file, line and key, and secrets that no one
sees."""

from pathlib import Path

import pytest

from canaryd.domain.policy.validation import InvalidPolicy
from canaryd.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]


def write(directory: Path, text: str) -> Path:
    path = directory / "canaryd.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusals(directory: Path, text: str) -> list[str]:
    path = write(directory, text)
    with pytest.raises(InvalidPolicy) as refused:
        load_settings(path)
    return [str(problem).removeprefix(f"{path}:") for problem in refused.value.problems]


def test_the_shipped_settings_say_the_defaults() -> None:
    shipped = load_settings(ROOT / "config" / "canaryd.yaml")
    assert shipped == load_settings(None, prometheus="http://prometheus.monitoring:9090")


def test_only_prometheus_has_to_be_named(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "prometheus: {url: http://prometheus:9090/}"))
    prometheus = settings.prometheus
    assert (prometheus.url, prometheus.scrape_interval, prometheus.ingestion_delay, prometheus.timeout) == (
        "http://prometheus:9090",
        15,
        15,
        10,
    )
    assert prometheus.verify is True
    assert (settings.http.listen, settings.http.port) == ("127.0.0.1", 8080)
    assert (settings.log.level, settings.log.format) == ("info", "auto")
    assert (settings.beat, settings.history, settings.policies, settings.notifiers) == (5, 10, "policies", {})
    assert (settings.kubernetes.kubeconfig, settings.kubernetes.context, settings.kubernetes.namespaces) == (
        None,
        None,
        (),
    )
    assert refusals(tmp_path, "http: {port: 1}") == [
        "1: prometheus is missing, wanted: Where the counts come from: {url: http://...}."
    ]


def test_a_cluster_s_domain_is_one_without_a_dot_at_either_end(tmp_path: Path) -> None:
    text = "prometheus: {{url: http://p}}\nkubernetes: {{clusterDomain: {}}}"
    assert (
        load_settings(write(tmp_path, text.format("example.internal"))).kubernetes.cluster_domain
        == "example.internal"
    )
    for wrong in (".cluster.local", "cluster.local.", "Cluster.local", "a b"):
        assert refusals(tmp_path, text.format(wrong)) == [
            f"2: kubernetes.clusterDomain must be a DNS domain such as cluster.local, without a dot at either end, but is {wrong!r}"
        ]


def test_the_delay_follows_the_scrape_interval_unless_it_is_written(tmp_path: Path) -> None:
    assert (
        load_settings(
            write(tmp_path, "prometheus: {url: http://p, scrapeInterval: 30s}")
        ).prometheus.ingestion_delay
        == 30
    )
    written = load_settings(
        write(tmp_path, "prometheus: {url: http://p, scrapeInterval: 30s, ingestionDelay: 5s}")
    )
    assert written.prometheus.ingestion_delay == 5


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.touch()
    path = write(tmp_path, "prometheus: {url: http://from-file, timeout: 3s}\nkubernetes: {timeout: 7s}")
    settings = load_settings(path, prometheus="https://from-option:9090", kubeconfig=str(kubeconfig))
    assert (settings.prometheus.url, settings.prometheus.timeout) == ("https://from-option:9090", 3)
    assert (settings.kubernetes.kubeconfig, settings.kubernetes.timeout) == (kubeconfig, 7)


def test_a_settings_file_may_be_missing_only_when_prometheus_is_given(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert load_settings(path, prometheus="http://p").prometheus.url == "http://p"
    with pytest.raises(InvalidPolicy, match=r"none\.yaml: cannot be read: No such file or directory"):
        load_settings(path)


def test_a_wrong_option_is_told_as_the_option_it_is(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidPolicy,
        match=r"^--prometheus must be a URL such as http://prometheus\.monitoring:9090, but is 'prometheus'$",
    ):
        load_settings(None, prometheus="prometheus")
    with pytest.raises(
        InvalidPolicy, match=r"^--kubeconfig must be a readable file, but '/nowhere/config' does not exist$"
    ):
        load_settings(write(tmp_path, "prometheus: {url: http://p}"), kubeconfig="/nowhere/config")


def test_all_that_is_wrong_is_told_at_once_in_the_file_s_order(tmp_path: Path) -> None:
    text = """\
prometheus:
  url: ftp://prometheus
  scrapeInterval: 30
  caFile: ca.pem
http: {port: 99999}
beat: 100ms
log: {level: loud}
notifiers:
  On_Call: {webhook: {url: http://a}}
  empty: {}
  audit:
    webhook:
      url: http://b
      tiemout: 5s
      headers: {"a b": c}
"""
    assert refusals(tmp_path, text) == [
        "2: prometheus.url must be a URL such as http://prometheus.monitoring:9090, but is 'ftp://prometheus'",
        "3: prometheus.scrapeInterval must be a duration such as 90s, 10m or 1h30m, but is 30: write 30s if that is meant",
        f"4: prometheus.caFile must be a readable file, but '{tmp_path}/ca.pem' does not exist",
        "5: http.port must be at most 65535, but is 99999",
        "6: beat must be at least 1s, but is 100ms",
        "7: log.level must be 'debug', 'info', 'warning' or 'error', but is 'loud'",
        "9: notifiers.On_Call must be a Kubernetes name (lower-case letters, digits and -, at most 63), but is 'On_Call'",
        "10: notifiers.empty must have webhook or alertmanager, but has neither",
        "14: notifiers.audit.webhook.tiemout is not known here, wanted one of url, basicAuth, bearerTokenFile, caFile, certFile, keyFile, "
        "insecureSkipVerify, headers, secret, secretFile, timeout, giveUpAfter (did you mean timeout?)",
        "15: notifiers.audit.webhook.headers.a b must be a header's name, but is 'a b'",
    ]


@pytest.mark.parametrize(
    ("prometheus", "refusal"),
    [
        (
            "basicAuth: {username: u, password: p}, bearerTokenFile: token",
            "prometheus must have basicAuth or bearerTokenFile, but has basicAuth and bearerTokenFile",
        ),
        (
            "basicAuth: {username: u}",
            "prometheus.basicAuth must have password or passwordFile, but has neither",
        ),
        ("certFile: token", "prometheus must have certFile and keyFile together, but has certFile alone"),
        (
            "caFile: token, insecureSkipVerify: true",
            "prometheus must have caFile or insecureSkipVerify, but has both",
        ),
        ("timeout: 0s", "prometheus.timeout must be above 0s, but is 0s"),
        ("caFile: ", "prometheus.caFile must have a value or be left out, but is empty"),
        ('headers: {X: "a\\nb"}', "prometheus.headers.X must be one line, but has a line break"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(tmp_path: Path, prometheus: str, refusal: str) -> None:
    (tmp_path / "token").write_text("t")
    assert refusals(tmp_path, f"prometheus: {{url: http://p, {prometheus}}}") == [f"1: {refusal}"]


SECRETS = """\
prometheus:
  url: http://p
  basicAuth: {username: u, password: "${CANARYD_TEST_PASSWORD}"}
  headers: {X-Scope-OrgID: tenant-hidden}
notifiers:
  audit: {webhook: {url: http://a, secretFile: hook, giveUpAfter: 1h}}
  open: {webhook: {url: http://b}}
  oncall: {alertmanager: {url: http://c, labels: {severity: page}}}
"""


@pytest.fixture
def secretive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("CANARYD_TEST_PASSWORD", "pass-hidden")
    (tmp_path / "hook").write_text("whsec_hidden\n")
    return load_settings(write(tmp_path, SECRETS))


def test_secrets_come_from_files_and_the_environment(secretive: Settings) -> None:
    assert secretive.prometheus.basic() == ("u", "pass-hidden")
    assert secretive.prometheus.plain_headers() == {"X-Scope-OrgID": "tenant-hidden"}
    audit, unsigned, oncall = (secretive.notifiers[name] for name in ("audit", "open", "oncall"))
    assert audit.webhook is not None
    assert audit.webhook.signing_secret() == "whsec_hidden"
    assert audit.webhook.give_up_after == 3600
    assert unsigned.webhook is not None
    assert unsigned.webhook.signing_secret() is None
    assert oncall.alertmanager is not None
    assert oncall.alertmanager.labels == {"severity": "page"}


def test_secrets_are_never_shown(secretive: Settings) -> None:
    assert "hidden" not in repr(secretive)
    assert "hidden" not in str(secretive.model_dump())
    assert "hidden" not in secretive.model_dump_json()


def test_a_rotated_secret_is_picked_up_and_a_lost_one_is_told(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    prometheus = load_settings(
        write(tmp_path, "prometheus: {url: http://p, bearerTokenFile: token}")
    ).prometheus
    assert prometheus.bearer_token() == "first"
    token.write_text("second\n")
    assert prometheus.bearer_token() == "second"
    token.unlink()
    with pytest.raises(InvalidPolicy, match="token: cannot be read: FileNotFoundError"):
        prometheus.bearer_token()


@pytest.mark.parametrize(
    "text",
    [
        "prometheus: {url: 'http://u:hidden@p'}",
        "prometheus: {url: 'http://u:hidden@p:port'}",
        "prometheus: {url: http://p, basicAuth: {username: u, password: [hidden]}}",
        "prometheus: {url: http://p, basicAuth: 'u:hidden'}",
        "prometheus: {url: http://p, headers: 'X: hidden'}",
        "prometheus: {url: http://p, headers: {X: [hidden]}}",
        "prometheus: {url: http://p}\nnotifiers: {a: 'https://a/hidden'}",
        "prometheus: {url: http://p, headers: {X: {hidden: 1}}}",
        "prometheus: {url: http://p}\nnotifiers: {a: {webhook: {url: http://a, secret: {hidden: 1}}}}",
    ],
)
def test_a_refusal_shows_no_secret(tmp_path: Path, text: str) -> None:
    (refusal,) = refusals(tmp_path, text)
    assert "hidden" not in refusal


def test_a_variable_within_a_text_is_the_environment_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARYD_TEST_TOKEN", "t0k\\1en")
    config = tmp_path / "canaryd.yaml"
    config.write_text(
        'prometheus: {url: "http://p", headers: {Authorization: "Bearer ${CANARYD_TEST_TOKEN}"}}'
    )
    assert load_settings(config).prometheus.plain_headers() == {"Authorization": "Bearer t0k\\1en"}
    monkeypatch.delenv("CANARYD_TEST_TOKEN")
    with pytest.raises(
        InvalidPolicy, match="must come from the environment variable CANARYD_TEST_TOKEN, but that is not set"
    ):
        load_settings(config)


def test_a_secret_that_the_environment_lacks_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'prometheus: {url: http://p, headers: {X: "${CANARYD_TEST_NONE}"}}'
    monkeypatch.delenv("CANARYD_TEST_NONE", raising=False)
    assert refusals(tmp_path, text) == [
        "1: prometheus.headers.X must come from the environment variable CANARYD_TEST_NONE, but that is not set"
    ]
    monkeypatch.setenv("CANARYD_TEST_NONE", "")
    assert refusals(tmp_path, text) == [
        "1: prometheus.headers.X must come from the environment variable CANARYD_TEST_NONE, but that is empty"
    ]


def test_gates_have_what_a_url_alone_lacks_and_no_time_limits_of_their_own(tmp_path: Path) -> None:
    config = tmp_path / "canaryd.yaml"
    config.write_text(
        "prometheus: {url: http://p}\ngates:\n  smoke: {url: https://tests.example/smoke, secret: whsec_x, headers: {X-A: b}}"
    )
    gate = load_settings(config).gates["smoke"]
    assert (gate.url, gate.signing_secret(), gate.plain_headers()) == (
        "https://tests.example/smoke",
        "whsec_x",
        {"X-A": "b"},
    )
    assert refusals(
        tmp_path,
        "prometheus: {url: http://p}\ngates:\n  smoke: {url: tests.example, timeout: 5s, secret: a, secretFile: b}",
    ) == [
        "3: gates.smoke.url must be a URL such as http://prometheus.monitoring:9090, but is 'tests.example'",
        f"3: gates.smoke.secretFile must be a readable file, but {str(tmp_path / 'b')!r} does not exist",
        "3: gates.smoke.timeout is not known here, wanted one of url, basicAuth, bearerTokenFile, caFile, certFile, keyFile, "
        "insecureSkipVerify, headers, secret, secretFile",
    ]


def test_settings_cannot_be_changed() -> None:
    settings = load_settings(None, prometheus="http://p")
    with pytest.raises(ValueError, match="frozen"):
        settings.beat = 1.0

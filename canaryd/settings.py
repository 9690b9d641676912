"""The daemon's settings: reads `config/canaryd.yaml` into one frozen `Settings`, or reports every problem
with file, line and key.

Only Prometheus' address has no default. Secrets come from files, which are read again at every use (so that a
rotated token is picked up), or from the environment (`${NAME}`). They are `SecretStr`, so no log and no
message shows them.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StrictBool,
    StrictInt,
    ValidationInfo,
    model_validator,
)

from canaryd.adapters.policies.policy_files import Document, read_document
from canaryd.domain.policy.fields import LabelName, PositiveSeconds, Seconds, Text, url
from canaryd.domain.policy.units import format_duration
from canaryd.domain.policy.validation import (
    InvalidPolicy,
    Problem,
    StrictModel,
    key_text,
    refusal,
    refuse_at,
    shown,
)

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # RFC 9110, 5.6.2: what a header's name is made of


def _file(value: object, info: ValidationInfo) -> object:
    """Checks that a file can be read; a relative path starts at the settings file's directory."""
    if not isinstance(value, str | Path) or not str(value):
        raise refusal(f"must be a file's path, but is {shown(value)}")
    path = Path((info.context or {}).get("beside", ""), os.path.expanduser(value))
    if not path.is_file() or not os.access(path, os.R_OK):
        raise refusal(
            f"must be a readable file, but {str(path)!r} "
            f"{'is not readable' if path.exists() else 'does not exist'}"
        )
    return path


def _from_environment(value: object) -> object:
    """Replaces each `${NAME}` by the environment's variable, also within a text such as `Bearer ${TOKEN}`;
    any other text is the secret itself."""
    if not isinstance(value, str):
        return value
    for name in re.findall(r"\$\{(\w+)\}", value):
        if not os.environ.get(name):
            raise refusal(
                f"must come from the environment variable {name}, but that is "
                f"{'empty' if name in os.environ else 'not set'}"
            )
    return re.sub(r"\$\{(\w+)\}", lambda found: os.environ[found[1]], value)


def _beat(seconds: float) -> float:
    if seconds < 1:  # the API server is asked on every beat
        raise refusal(f"must be at least 1s, but is {format_duration(seconds)}")
    return seconds


def _headers(headers: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
    names = ((name,) for name in headers if not re.fullmatch(_TOKEN, name))
    values = ((name,) for name, value in headers.items() if re.search(r"[\r\n\0]", value.get_secret_value()))
    refuse_at(
        *((key, f"must be a header's name, but is {shown(key[0])}") for key in names),
        *((key, "must be one line, but has a line break") for key in values),
    )
    return headers


def _domain(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", value):
        raise refusal(
            f"must be a DNS domain such as cluster.local, without a dot at either end, but is {shown(value)}"
        )
    return value


ClusterDomain = Annotated[str, AfterValidator(_domain)]
Url = Annotated[
    str,
    AfterValidator(lambda value: url(value, "http://prometheus.monitoring:9090", "use basicAuth or headers")),
]
File = Annotated[Path, BeforeValidator(_file)]
Secret = Annotated[SecretStr, BeforeValidator(_from_environment), Field(min_length=1)]
Headers = Annotated[Mapping[str, Secret], AfterValidator(_headers)]


def _one_of(model: StrictModel, *names: str, needed: bool = True) -> None:
    """Refuses a model with more than one of these keys, or with none of them if one is needed."""
    keys = [
        type(model).model_fields[name].alias or name for name in names if getattr(model, name) is not None
    ]
    wanted = " or ".join(type(model).model_fields[name].alias or name for name in names)
    if len(keys) > 1 or (needed and not keys):
        raise refusal(f"must have {wanted}, but has {' and '.join(keys) or 'neither'}")


def _text(secret: SecretStr | None, file: Path | None) -> str | None:
    """A secret's text from the settings, or from its file as the file is now. Raises InvalidPolicy if the
    file has become unreadable."""
    if file is None:
        return secret.get_secret_value() if secret else None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPolicy([Problem((), f"cannot be read: {type(error).__name__}", str(file))]) from error


class BasicAuth(StrictModel):
    """A user and a password, which is given here or in a file."""

    username: Text = Field(description="The user's name.")
    password: Secret | None = Field(
        default=None, description="The password; preferably ${NAME}, from the environment."
    )
    password_file: File | None = Field(default=None, description="A file with the password.")

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        _one_of(self, "password", "password_file")
        return self

    def pair(self) -> tuple[str, str]:
        """User and password as they are now. Raises InvalidPolicy for an unreadable file."""
        return self.username, _text(self.password, self.password_file) or ""


class ServerSettings(StrictModel):
    """How an HTTP server is reached: its address, canaryd's credentials, the certificates that are trusted,
    and extra headers."""

    url: Url = Field(
        description="The URL: the root of Prometheus or an Alertmanager, the whole URL of a webhook or a "
        "gate."
    )
    basic_auth: BasicAuth | None = Field(
        default=None, description="User and password for HTTP basic authentication."
    )
    bearer_token_file: File | None = Field(
        default=None, description="A file with a bearer token; read again for each request."
    )
    ca_file: File | None = Field(
        default=None, description="A file with the certificates to trust (PEM); by default the system's."
    )
    cert_file: File | None = Field(
        default=None, description="A file with canaryd's own certificate (PEM), for mutual TLS."
    )
    key_file: File | None = Field(
        default=None, description="A file with the key of canaryd's certificate (PEM)."
    )
    insecure_skip_verify: StrictBool = Field(
        default=False, description="Does not check the server's certificate; for trying out only."
    )
    headers: Headers = Field(
        default={},
        description="Headers that are sent with every request, such as X-Scope-OrgID for a tenant.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _one_of(self, "basic_auth", "bearer_token_file", needed=False)
        if (self.cert_file is None) != (self.key_file is None):
            raise refusal(
                "must have certFile and keyFile together, but has "
                f"{'certFile' if self.cert_file else 'keyFile'} alone"
            )
        if self.ca_file and self.insecure_skip_verify:
            raise refusal("must have caFile or insecureSkipVerify, but has both")
        return self

    @property
    def certificate(self) -> tuple[str, str] | None:
        """The paths of canaryd's certificate and key; None without them."""
        return (str(self.cert_file), str(self.key_file)) if self.cert_file and self.key_file else None

    @property
    def verify(self) -> bool | str:
        """The `verify` of `requests`: the path of the trusted certificates, or whether certificates are
        checked at all."""
        return str(self.ca_file) if self.ca_file else not self.insecure_skip_verify

    def basic(self) -> tuple[str, str] | None:
        """User and password as they are now, if any. Raises InvalidPolicy for an unreadable file."""
        return self.basic_auth.pair() if self.basic_auth else None

    def bearer_token(self) -> str | None:
        """The token as it is now; None without one. Raises InvalidPolicy for an unreadable file."""
        return _text(None, self.bearer_token_file)

    def plain_headers(self) -> dict[str, str]:
        """The headers with their secret values; not for logs."""
        return {name: value.get_secret_value() for name, value in self.headers.items()}


class PrometheusSettings(ServerSettings):
    """Where the counts come from: Prometheus, or a server with its API (Thanos, Mimir, VictoriaMetrics)."""

    scrape_interval: PositiveSeconds = Field(
        default=15.0, description="Prometheus' scrape interval for Istio's metrics."
    )
    ingestion_delay: Seconds = Field(
        default_factory=lambda known: float(known.get("scrape_interval", 15.0)),
        description="How long after its end a look is read, so that all samples have arrived. Default: one "
        "scrape interval.",
    )
    timeout: PositiveSeconds = Field(default=10.0, description="The time limit of one query.")


class KubernetesSettings(StrictModel):
    """How the API server is reached: with a kubeconfig, or, in a cluster without one, with the pod's service
    account."""

    kubeconfig: File | None = Field(
        default=None,
        description="The kubeconfig. By default $KUBECONFIG, ~/.kube/config or the pod's service account.",
    )
    context: Text | None = Field(
        default=None, description="The kubeconfig's context; by default its current one."
    )
    namespaces: tuple[LabelName, ...] = Field(
        default=(), description="The namespaces whose services have rollouts. Empty: all namespaces."
    )
    cluster_domain: ClusterDomain = Field(
        default="cluster.local", description="The cluster's DNS domain, with which its hosts' names end."
    )
    timeout: PositiveSeconds = Field(default=5.0, description="The time limit of one request.")
    settle: Seconds = Field(
        default=5.0,
        description="How long proxies may take to learn of a new subset or Service; traffic is sent to it "
        "only after this time.",
    )


class HttpSettings(StrictModel):
    """Where /livez, /readyz and /metrics are served."""

    listen: Text = Field(default="127.0.0.1", description="The address to listen on; 0.0.0.0 in a pod.")
    port: StrictInt = Field(
        default=8080, ge=0, le=65535, description="The port to listen on; 0: any free port."
    )


class LogSettings(StrictModel):
    """What is logged, and in which format."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="The format; auto: console in a terminal, json otherwise."
    )


class SignedReceiverSettings(ServerSettings):
    """A receiver of CloudEvents, which are signed by the rules of Standard Webhooks if there is a secret."""

    secret: Secret | None = Field(
        default=None, description="The secret: whsec_ and base64; preferably ${NAME}, from the environment."
    )
    secret_file: File | None = Field(default=None, description="A file with the secret.")

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        _one_of(self, "secret", "secret_file", needed=False)
        return self

    def signing_secret(self) -> str | None:
        """The secret as it is now; None for unsigned messages. Raises InvalidPolicy for an unreadable
        file."""
        return _text(self.secret, self.secret_file)


class WebhookSettings(SignedReceiverSettings):
    """A webhook to which announcements are sent."""

    timeout: PositiveSeconds = Field(default=5.0, description="The time limit of one try.")
    give_up_after: PositiveSeconds = Field(default=86400.0, description="How long an announcement is tried.")


class GateSettings(SignedReceiverSettings):
    """A gate, which is asked whether a rollout may go on. Policies say when, how often and with which time
    limits."""


class AlertmanagerSettings(ServerSettings):
    """One Alertmanager; each member of an Alertmanager cluster is a notifier of its own."""

    labels: Mapping[str, str] = Field(
        default={}, description="Labels that are added to every alert, such as {severity: page}."
    )
    timeout: PositiveSeconds = Field(default=5.0, description="The time limit of one try.")
    give_up_after: PositiveSeconds = Field(default=86400.0, description="How long an announcement is tried.")


class NotifierSettings(StrictModel):
    """A way to send announcements: a map with one key, `webhook` or `alertmanager`."""

    webhook: WebhookSettings | None = Field(
        default=None, description="A webhook that gets signed CloudEvents."
    )
    alertmanager: AlertmanagerSettings | None = Field(default=None, description="A Prometheus Alertmanager.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        _one_of(self, "webhook", "alertmanager")
        return self


class Settings(StrictModel):
    """All settings of the daemon. Only `prometheus` is required."""

    prometheus: PrometheusSettings = Field(description="Where the counts come from: {url: http://...}.")
    kubernetes: KubernetesSettings = Field(
        default=KubernetesSettings(), description="How the API server is reached."
    )
    http: HttpSettings = Field(default=HttpSettings(), description="Where health and metrics are served.")
    log: LogSettings = Field(default=LogSettings(), description="What is logged, and in which format.")
    beat: Annotated[Seconds, AfterValidator(_beat)] = Field(
        default=5.0, description="How often the cluster and telemetry are looked at, at least 1s."
    )
    history: StrictInt = Field(
        default=10, ge=1, description="How many ended rollouts are kept for each service."
    )
    policies: Text = Field(
        default="policies",
        description="The directory of policies; a relative path starts at canaryd's working directory.",
    )
    notifiers: Mapping[LabelName, NotifierSettings] = Field(
        default={}, description="The notifiers that the hooks of policies may name."
    )
    gates: Mapping[LabelName, GateSettings] = Field(
        default={}, description="The gates that the hooks of policies may name."
    )


def load_settings(
    path: Path | None, prometheus: str | None = None, kubeconfig: str | None = None
) -> Settings:
    """Reads the settings of a file, with the command line's overrides.

    path: the file; it may be missing if `prometheus` is given; None: no file. prometheus, kubeconfig:
    override prometheus.url and kubernetes.kubeconfig; None: no override. Raises InvalidPolicy with all
    problems.
    """
    document = Document("", {}, {})
    if path is not None and (path.exists() or prometheus is None):
        document = read_document(path)
    data = dict(document.data)
    if prometheus is not None:
        data["prometheus"] = {**_map(data.get("prometheus")), "url": prometheus}
    if kubeconfig is not None:
        data["kubernetes"] = {
            **_map(data.get("kubernetes")),
            "kubeconfig": str(Path(kubeconfig).expanduser().absolute()),
        }
    beside = path.parent.absolute() if path else Path.cwd()
    try:
        return Settings.read(data, beside=beside)
    except InvalidPolicy as refused:
        options = {
            "prometheus.url": prometheus and "--prometheus",
            "kubernetes.kubeconfig": kubeconfig and "--kubeconfig",
        }
        problems = [
            _placed(document, problem, options.get(key_text(problem.key))) for problem in refused.problems
        ]
        raise InvalidPolicy(sorted(problems, key=lambda problem: problem.line)) from None


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _placed(document: Document, problem: Problem, option: str | None) -> Problem:
    """Adds the problem's file and line, or the command line's option that the value came from."""
    if option:
        return Problem((option,), problem.message)
    return document.placed(problem) if document.file else problem

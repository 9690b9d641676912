"""The daemon's own settings: `config/canaryd.yaml` into one frozen `Settings`, with every problem by file,
line and key.

Only Prometheus' address has no default. Secrets come from files, which are read whenever they are used (so
that a rotated token is picked up), or from the environment (`${NAME}`); they are `SecretStr`, so no log and
no message shows them.
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
    """A file that is there; relative ones are looked for beside the settings file."""
    if not isinstance(value, str | Path) or not str(value):
        raise refusal(f"must be a file's path, but is {shown(value)}")
    path = Path((info.context or {}).get("beside", ""), os.path.expanduser(value))
    if not path.is_file() or not os.access(path, os.R_OK):
        raise refusal(
            f"must be a readable file, but {str(path)!r} is "
            f"{'not readable' if path.exists() else 'not there'}"
        )
    return path


def _from_environment(value: object) -> object:
    """Each `${NAME}` is the environment's, alone or within a text such as `Bearer ${TOKEN}`; the rest is the
    secret itself."""
    if not isinstance(value, str):
        return value
    for name in re.findall(r"\$\{(\w+)\}", value):
        if not os.environ.get(name):
            raise refusal(
                f"must come from the environment's {name}, but that is "
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
    """Refuses more than one of these keys, and none of them where one is needed."""
    keys = [
        type(model).model_fields[name].alias or name for name in names if getattr(model, name) is not None
    ]
    wanted = " or ".join(type(model).model_fields[name].alias or name for name in names)
    if len(keys) > 1 or (needed and not keys):
        raise refusal(f"must have {wanted}, but has {' and '.join(keys) or 'neither'}")


def _text(secret: SecretStr | None, file: Path | None) -> str | None:
    """A secret's text, from the settings or from its file as that is now. Raises Refused when the file has
    become unreadable."""
    if file is None:
        return secret.get_secret_value() if secret else None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPolicy([Problem((), f"cannot be read: {type(error).__name__}", str(file))]) from error


class BasicAuth(StrictModel):
    """A user and a password, the latter from here or from a file."""

    username: Text = Field(description="The user.")
    password: Secret | None = Field(default=None, description="Better ${NAME}, from the environment.")
    password_file: File | None = Field(default=None, description="A file with the password.")

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        _one_of(self, "password", "password_file")
        return self

    def pair(self) -> tuple[str, str]:
        """User and password as they are now. Raises Refused."""
        return self.username, _text(self.password, self.password_file) or ""


class ServerSettings(StrictModel):
    """How an HTTP server is reached: who one is, whom one trusts, and what is sent along."""

    url: Url = Field(description="Its root.")
    basic_auth: BasicAuth | None = Field(default=None, description="User and password.")
    bearer_token_file: File | None = Field(
        default=None, description="A file with a token; read anew for each request."
    )
    ca_file: File | None = Field(
        default=None, description="Certificates to trust (PEM); by default the system's."
    )
    cert_file: File | None = Field(
        default=None, description="canaryd's own certificate (PEM), for mutual TLS."
    )
    key_file: File | None = Field(default=None, description="Its key (PEM).")
    insecure_skip_verify: StrictBool = Field(default=False, description="Trusts anyone; for trying out.")
    headers: Headers = Field(default={}, description="Sent along, such as X-Scope-OrgID for a tenant.")

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
        """Paths of certificate and key."""
        return (str(self.cert_file), str(self.key_file)) if self.cert_file and self.key_file else None

    @property
    def verify(self) -> bool | str:
        """Whom to trust, as `requests` takes it: a path, or whether anyone is checked at all."""
        return str(self.ca_file) if self.ca_file else not self.insecure_skip_verify

    def basic(self) -> tuple[str, str] | None:
        """User and password as they are now. Raises Refused."""
        return self.basic_auth.pair() if self.basic_auth else None

    def bearer_token(self) -> str | None:
        """The token as it is now. Raises Refused."""
        return _text(None, self.bearer_token_file)

    def plain_headers(self) -> dict[str, str]:
        """The headers with their values; not for logs."""
        return {name: value.get_secret_value() for name, value in self.headers.items()}


class PrometheusSettings(ServerSettings):
    """Where the counts come from: Prometheus, or what answers like it (Thanos, Mimir, VictoriaMetrics)."""

    scrape_interval: PositiveSeconds = Field(default=15.0, description="Its own, for Istio's metrics.")
    ingestion_delay: Seconds = Field(
        default_factory=lambda known: float(known.get("scrape_interval", 15.0)),
        description="Looks are read so late, so that all samples are in. Default: one scrape interval.",
    )
    timeout: PositiveSeconds = Field(default=10.0, description="For one query.")


class KubernetesSettings(StrictModel):
    """How the API server is reached: by a kubeconfig, or, inside a cluster without one, by the pod's own
    account."""

    kubeconfig: File | None = Field(
        default=None, description="By default $KUBECONFIG, ~/.kube/config or the pod's account."
    )
    context: Text | None = Field(default=None, description="Of the kubeconfig; by default its current one.")
    namespaces: tuple[LabelName, ...] = Field(
        default=(), description="Only services in these have rollouts. Empty: in all."
    )
    cluster_domain: ClusterDomain = Field(
        default="cluster.local", description="The cluster's DNS domain, of which its hosts are part."
    )
    timeout: PositiveSeconds = Field(default=5.0, description="For one request.")
    settle: Seconds = Field(
        default=5.0,
        description="So long proxies may take to learn of a new subset or Service; only then is traffic sent "
        "to it.",
    )


class HttpSettings(StrictModel):
    """Where /livez, /readyz and /metrics are served."""

    listen: Text = Field(default="127.0.0.1", description="The address; 0.0.0.0 in a pod.")
    port: StrictInt = Field(default=8080, ge=0, le=65535, description="The port; 0: any free one.")


class LogSettings(StrictModel):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="From which level on."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console in a terminal, else json."
    )


class SignedReceiverSettings(ServerSettings):
    """A receiver of CloudEvents, signed as Standard Webhooks has it when there is a secret."""

    secret: Secret | None = Field(
        default=None, description="whsec_ and base64; better ${NAME}, from the environment."
    )
    secret_file: File | None = Field(default=None, description="A file with it.")

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        _one_of(self, "secret", "secret_file", needed=False)
        return self

    def signing_secret(self) -> str | None:
        """The secret as it is now; None: unsigned. Raises Refused."""
        return _text(self.secret, self.secret_file)


class WebhookSettings(SignedReceiverSettings):
    """Is told of what happens."""

    timeout: PositiveSeconds = Field(default=5.0, description="For one try.")
    give_up_after: PositiveSeconds = Field(default=86400.0, description="So long is it tried.")


class GateSettings(SignedReceiverSettings):
    """Is asked whether a rollout may go on. When, how often and with which time limits is the policies'."""


class AlertmanagerSettings(ServerSettings):
    """One Alertmanager; of a cluster of them, each is a notifier of its own."""

    labels: Mapping[str, str] = Field(
        default={}, description="Added to every alert, such as {severity: page}."
    )
    timeout: PositiveSeconds = Field(default=5.0, description="For one try.")
    give_up_after: PositiveSeconds = Field(default=86400.0, description="So long is it tried.")


class NotifierSettings(StrictModel):
    """One way to tell someone: a map with one key, `webhook` or `alertmanager`."""

    webhook: WebhookSettings | None = Field(default=None, description="A signed CloudEvents webhook.")
    alertmanager: AlertmanagerSettings | None = Field(default=None, description="A Prometheus Alertmanager.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        _one_of(self, "webhook", "alertmanager")
        return self


class Settings(StrictModel):
    """All of the daemon's settings. See the module."""

    prometheus: PrometheusSettings = Field(description="Where the counts come from: {url: http://...}.")
    kubernetes: KubernetesSettings = Field(
        default=KubernetesSettings(), description="How the API server is reached."
    )
    http: HttpSettings = Field(default=HttpSettings(), description="Where health and metrics are served.")
    log: LogSettings = Field(default=LogSettings(), description="What is logged, and how.")
    beat: Annotated[Seconds, AfterValidator(_beat)] = Field(
        default=5.0, description="How often the world is looked at, at least 1s."
    )
    history: StrictInt = Field(
        default=10, ge=1, description="Ended rollouts that are kept, for each service."
    )
    policies: Text = Field(
        default="policies", description="The directory of policies; relative to where canaryd runs."
    )
    notifiers: Mapping[LabelName, NotifierSettings] = Field(
        default={}, description="Whom policies' hooks may tell, by name."
    )
    gates: Mapping[LabelName, GateSettings] = Field(
        default={}, description="What policies' hooks may ask, by name."
    )


def load_settings(
    path: Path | None, prometheus: str | None = None, kubeconfig: str | None = None
) -> Settings:
    """The settings of a file, with what the command line overrides.

    A file that is not there is fine when `prometheus` is given; path None: no file. Raises Refused with all
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
    """With the file and line, or the command line's option it came from."""
    if option:
        return Problem((option,), problem.message)
    return document.placed(problem) if document.file else problem

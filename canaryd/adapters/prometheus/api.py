"""Prometheus' HTTP API: authentication, time limits, and what counts as a complete answer.

An answer is whole or it is none, and whether to ask again is the caller's to say. No PromQL is written here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from prometheus_api_client import PrometheusConnect
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from canaryd.domain.ports import Rejected, Unavailable

CONNECT_SECONDS = 3.0  # at most; a Prometheus in reach accepts in milliseconds
POOL = 4  # connections kept open

_AGAIN = frozenset({408, 429})  # and every 5xx
_HINTS = {
    401: "it wants to know who asks: set username and password, or bearer_token_file",
    403: "these credentials may not query it; it must be let through to POST as well",
    404: "is this the address of Prometheus' own API, with the path prefix it may have?",
    405: "POST to /api/v1/query_range must be let through, queries can be too long for a GET",
}

Labels = Mapping[str, str]
Series = tuple[Labels, Sequence[tuple[float, str]]]  # labels, and (Unix seconds, value as written)


@dataclass(frozen=True, slots=True)
class PrometheusAccess:
    """Where Prometheus is, and how to get in.

    scrape_interval: of Istio's metrics, s, not longer than the real one. timeout: s, for each request.
    bearer_token_file is read for each request, so a rotated token is taken up. headers go with each request
    (X-Scope-OrgID for tenants).
    """

    url: str
    scrape_interval: float = 15.0
    timeout: float = 10.0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    bearer_token_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure_skip_verify: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.username and self.bearer_token_file:
            raise ValueError(
                "Prometheus: either username and password or bearer_token_file is wanted, but both are set"
            )
        if self.key_file and not self.cert_file:
            raise ValueError(
                f"Prometheus: key_file is {self.key_file}, but cert_file, which it belongs to, is not set"
            )
        if not (self.scrape_interval > 0 and self.timeout > 0):
            given = f"{self.scrape_interval:g} and {self.timeout:g}"
            raise ValueError(f"Prometheus: scrape_interval and timeout must be above 0 s, but are {given}")


class PrometheusApi(PrometheusConnect):  # type: ignore[misc]  # the library has no types
    """Prometheus' HTTP API with time limits, whole answers only, and no hidden retries. Raises Unavailable
    and Rejected, nothing else."""

    def __init__(self, access: PrometheusAccess) -> None:
        session = requests.Session()
        # no proxies, .netrc or CA bundles from the environment: what is not in the settings does not apply
        session.trust_env = False
        session.verify = False if access.insecure_skip_verify else access.ca_file or True
        session.cert = (
            (access.cert_file, access.key_file) if access.cert_file and access.key_file else access.cert_file
        )
        session.auth = (access.username, access.password or "") if access.username else None
        session.headers.update({"User-Agent": "canaryd", **access.headers})
        if access.insecure_skip_verify:
            # asked for; one warning a query would drown the log
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        super().__init__(access.url.rstrip("/"), retry=Retry(total=0), session=session, method="POST")
        session.mount(
            self.url, HTTPAdapter(pool_connections=1, pool_maxsize=POOL, max_retries=Retry(total=0))
        )
        # when the last answer was given, by the server's clock, as HTTP writes it
        self.said_at: str | None = None
        self._token_file = access.bearer_token_file
        self._limits = (min(CONNECT_SECONDS, access.timeout), access.timeout)
        parts = urlsplit(self.url)
        self.shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"  # without a password

    def range(self, query: str, times: range) -> list[Series]:
        """The series of a query at these times (whole Unix seconds, evenly spaced). Raises Unavailable,
        Rejected."""
        form = {
            "query": query,
            "start": str(times[0]),
            "end": str(times[-1]),
            "step": str(times.step),
            "timeout": f"{self._limits[1]:g}",
        }
        data = self.ask("POST", "/api/v1/query_range", form)
        try:
            return [
                (series["metric"], [(float(at), str(value)) for at, value in series["values"]])
                for series in data["result"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(
                f"Prometheus at {self.shown}: the answer is no matrix of series: {error!r}"
            ) from error

    def instant(self, query: str, at: float) -> list[Series]:
        """The series of a query at one time (Unix seconds): one value of each, or its samples where the query
        asks for a window. Raises Unavailable, Rejected."""
        data = self.ask(
            "POST", "/api/v1/query", {"query": query, "time": f"{at:.3f}", "timeout": f"{self._limits[1]:g}"}
        )
        try:
            return [
                (
                    series["metric"],
                    [
                        (float(moment), str(value))
                        for moment, value in series.get("values") or [series["value"]]
                    ],
                )
                for series in data["result"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(
                f"Prometheus at {self.shown}: the answer is no list of series: {error!r}"
            ) from error

    def ask(self, method: str, path: str, form: Mapping[str, str] | None = None) -> Any:
        """The `data` of one answer. The query goes in the body, so that it may be long.
        Raises Unavailable (no answer, or not all of it), Rejected (a query refused)."""
        try:
            response = self._session.request(
                method,
                f"{self.url}{path}",
                data=form,
                headers=self._authorization(),
                timeout=self._limits,
                allow_redirects=False,
            )
        except requests.Timeout as error:
            raise Unavailable(
                f"Prometheus at {self.shown} did not answer within {self._limits[1]:g} s"
            ) from error
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error) or "doesn't match" in str(error):
                raise Rejected(
                    f"Prometheus at {self.shown}: certificate not trusted (is ca_file its CA?): "
                    f"{_cause(error)}"
                ) from error
            raise Unavailable(f"Prometheus at {self.shown}: no TLS connection: {_cause(error)}") from error
        except (
            requests.ConnectionError,
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ContentDecodingError,
        ) as error:
            raise Unavailable(f"Prometheus at {self.shown} cannot be reached: {_cause(error)}") from error
        except (
            requests.RequestException,
            OSError,
        ) as error:  # an address that is none; a certificate file that is not there
            raise Rejected(f"Prometheus at {self.shown} cannot be asked: {error}") from error
        self.said_at = response.headers.get("Date")
        return self._data(response)

    def _authorization(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {Path(self._token_file).read_text(encoding='utf-8').strip()}"}
        except (OSError, UnicodeDecodeError) as error:  # perhaps just being rotated
            raise Unavailable(
                f"Prometheus' bearer_token_file {self._token_file} cannot be read: {error}"
            ) from error

    def _data(self, response: requests.Response) -> Any:
        status = response.status_code
        try:
            answer = response.json()
        except ValueError:
            answer = None
        whole = isinstance(answer, dict)
        error_text = str(answer.get("error", "")) if whole else response.text[:200].strip()
        if status >= 500 or status in _AGAIN:
            raise Unavailable(
                f"Prometheus at {self.shown} answered HTTP {status}: {error_text or response.reason}"
            )
        if 300 <= status < 400:
            raise Rejected(
                f"Prometheus at {self.shown} redirects to {response.headers.get('Location')}: is that a "
                "login, or its address?"
            )
        if status in _HINTS:
            raise Rejected(
                f"Prometheus at {self.shown} answered HTTP {status} ({_HINTS[status]}): "
                f"{error_text or response.reason}"
            )
        if status != 200:
            raise Rejected(
                f"Prometheus at {self.shown} refused the query (HTTP {status}): "
                f"{error_text or response.reason}"
            )
        if not whole or answer.get("status") != "success" or answer.get("data") is None:
            raise Unavailable(
                f"Prometheus at {self.shown}: the answer is no JSON of its API: "
                f"{error_text or response.text[:200]!r}"
            )
        partial = [str(warning) for warning in answer.get("warnings") or ()]
        partial += [str(info) for info in answer.get("infos") or () if "partial" in str(info).lower()]
        if partial or answer.get("isPartial"):
            raise Unavailable(
                f"Prometheus at {self.shown} answered in part: {'; '.join(partial) or 'isPartial'}"
            )
        return answer["data"]


def _cause(error: Exception) -> object:
    """What is at the bottom of a requests exception, without its layers' own words."""
    inner = error.args[0] if error.args else error
    return getattr(inner, "reason", inner)

"""Posts a small JSON body to a receiver: with time limits, without redirects, with a bounded read of the
reply, and with errors translated in one place.

All notifiers and gates that use HTTP share it, and decide themselves what a reply means. Messages name only
the URL's scheme and host, since many receivers have a secret in its path.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import requests
import requests.auth
import urllib3

from canaryd.domain.policy.validation import InvalidPolicy
from canaryd.domain.ports import Rejected, Unavailable

# share of invalid characters up to which a reply is shown: one that was cut now and then does no harm
NOISE = 0.1
EXCERPT = 300  # characters of a reply that are shown: enough for a sentence, too few for a page


def moment(at: float) -> str:
    """Writes Unix seconds as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class ReceiverAccess:
    """How a receiver is reached.

    headers: sent with every request. basic, bearer: give (user, password) and a token as they are now; called
    on every try, so that rotated ones are picked up; they may raise InvalidPolicy. verify: the path of a CA
    bundle, or whether the receiver's certificate is checked at all. certificate: the paths of (certificate,
    key) for mutual TLS. timeout: seconds for the connection, and again for the reply.
    """

    # These carry tokens, so no log shows them.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    basic: Callable[[], tuple[str, str] | None] = field(default=_nothing, repr=False)
    bearer: Callable[[], str | None] = field(default=_nothing, repr=False)
    verify: bool | str = True
    certificate: tuple[str, str] | None = None
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A receiver's reply. status: the HTTP status. says: the beginning of the body on one line, at most
    EXCERPT characters; "" for a success whose body is not read."""

    status: int
    says: str = ""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def __str__(self) -> str:
        return f"HTTP {self.status}" + (f": {self.says}" if self.says else "")


class Poster:
    """Posts to one URL. It may be used from any thread; each thread has a session and a kept connection of
    its own."""

    def __init__(self, url: str, access: ReceiverAccess | None = None, reads_success: bool = False) -> None:
        """reads_success: whether the body of a 2xx reply is read as well. Raises ValueError for an invalid
        URL or timeout."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            came = f"its scheme is {parts.scheme!r} and its host {parts.hostname!r}"
            raise ValueError(f"url must be http://HOST/... or https://HOST/..., but {came}")
        self.access = access or ReceiverAccess()
        if self.access.timeout <= 0:
            raise ValueError(f"timeout must be above 0 s, but is {self.access.timeout:g} s")
        self.url, self._reads_success = url, reads_success
        self.shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._local = threading.local()

    def post(self, body: bytes, headers: Mapping[str, str]) -> HttpReply:
        """Sends a body once. Raises Unavailable (no reply, or not in time), Rejected (the URL or a header
        cannot be sent at all)."""
        try:
            with self._session().post(
                self.url,
                data=body,
                headers={**self.access.headers, **headers},
                auth=self._authorize,
                timeout=self.access.timeout,
                # A redirected POST would turn into a GET, or carry the signature to another host.
                allow_redirects=False,
                stream=True,
            ) as response:
                if 200 <= response.status_code < 300 and not self._reads_success:
                    return HttpReply(response.status_code)
                return HttpReply(response.status_code, _excerpt(response))
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader) as error:
            raise Rejected(f"{self.shown}: cannot be sent: {type(error).__name__}") from error
        except requests.exceptions.ConnectTimeout as error:
            raise Unavailable(f"{self.shown}: no connection within {self.access.timeout:g} s") from error
        except requests.exceptions.Timeout as error:
            raise Unavailable(f"{self.shown}: no reply within {self.access.timeout:g} s") from error
        except InvalidPolicy as error:  # a secret's file: people can repair it before the next try
            raise Unavailable(f"{self.shown}: {error}") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable(f"{self.shown}: {_cause(error)}") from error

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        basic, bearer = self.access.basic(), self.access.bearer()
        if basic is not None:
            requests.auth.HTTPBasicAuth(*(part.encode() for part in basic))(request)
        elif bearer is not None:
            request.headers["Authorization"] = f"Bearer {bearer}"
        return request

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            # A proxy or a .netrc of the environment must not decide where a signed message goes, or as whom.
            session.trust_env = False
            session.verify = self.access.verify
            session.cert = self.access.certificate
            session.headers.update({"User-Agent": "canaryd", "Accept-Encoding": "identity"})
            self._local.session = session
        return session


def _excerpt(response: requests.Response) -> str:
    """The beginning of the body, if it is text: the result of one read, so that a large or slow body is not
    waited for."""
    try:
        raw = response.raw.read1(4 * EXCERPT)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return f"({type(error).__name__} while its body was read)"
    text = bytes(raw or b"").decode("utf-8", "replace")
    if text.count("\N{REPLACEMENT CHARACTER}") + text.count("\0") > NOISE * len(text):
        return "(a body that is not text)"
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:EXCERPT]


def _cause(error: BaseException) -> str:
    """The innermost reason of an error of requests and urllib3, whose own texts quote the whole URL."""
    causes: list[BaseException] = []
    candidates: list[object] = [error]
    while candidates:
        cause = candidates.pop(0)
        if isinstance(cause, BaseException) and cause not in causes:
            causes.append(cause)
            candidates += [getattr(cause, "reason", None), cause.__cause__, cause.__context__, *cause.args]
    for cause in reversed(causes):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return type(causes[-1]).__name__

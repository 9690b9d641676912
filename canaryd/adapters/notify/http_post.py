"""One way to POST a small JSON body to a receiver: time limits, no redirects, a bounded read of the reply,
one translation of errors.

Shared by the notifiers that speak HTTP. What a reply means is theirs to say; how it is got is here. No
message names more of the URL than scheme and host, since receivers like to keep their secret in its path.
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

# share of characters that are none in UTF-8: a cut or wrong one now and then is no reason to show nothing
NOISE = 0.1
EXCERPT = 300  # characters of a reply that are shown: enough for a sentence, too few for a page


def moment(at: float) -> str:
    """Unix seconds as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class ReceiverAccess:
    """How a receiver is reached.

    basic, bearer: give (user, password) and a token as they are now; asked on every try, so that what is
    rotated is picked up; they may raise Refused. verify: path of a CA bundle, or whether the receiver's
    certificate is checked at all. certificate: paths of (certificate, key) for mutual TLS. timeout: seconds,
    for the connection and then for the reply.
    """

    # they carry tokens, so no log shows them
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    basic: Callable[[], tuple[str, str] | None] = field(default=_nothing, repr=False)
    bearer: Callable[[], str | None] = field(default=_nothing, repr=False)
    verify: bool | str = True
    certificate: tuple[str, str] | None = None
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class HttpReply:
    """status: the HTTP status; says: the beginning of the body, on one line; of a success only where it is
    asked for."""

    status: int
    says: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def __str__(self) -> str:
        return f"HTTP {self.status}" + (f": {self.says}" if self.says else "")


class Poster:
    """POSTs to one URL. Usable from any thread; each has a session (and so a kept connection) of its own."""

    def __init__(self, url: str, access: ReceiverAccess | None = None, hears_success: bool = False) -> None:
        """hears_success: whether the body of a 2xx is read as well. Raises ValueError for a URL that is none,
        or time limits that are none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            came = f"its scheme is {parts.scheme!r} and its host {parts.hostname!r}"
            raise ValueError(f"url must be http://HOST/... or https://HOST/..., but {came}")
        self.access = access or ReceiverAccess()
        if self.access.timeout <= 0:
            raise ValueError(f"timeout must be above 0 s, but is {self.access.timeout:g} s")
        self.url, self._hears_success = url, hears_success
        self.shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._local = threading.local()

    def post(self, body: bytes, headers: Mapping[str, str]) -> HttpReply:
        """Sends it once. Raises Unavailable (no reply, or not in time), Rejected (the URL or a header cannot
        be sent at all)."""
        try:
            with self._session().post(
                self.url,
                data=body,
                headers={**self.access.headers, **headers},
                auth=self._authorize,
                timeout=self.access.timeout,
                # a redirected POST turns into a GET, or carries the signature to another host
                allow_redirects=False,
                stream=True,
            ) as response:
                if 200 <= response.status_code < 300 and not self._hears_success:
                    return HttpReply(response.status_code)
                return HttpReply(response.status_code, _excerpt(response))
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader) as error:
            raise Rejected(f"{self.shown}: cannot be sent: {type(error).__name__}") from error
        except requests.exceptions.ConnectTimeout as error:
            raise Unavailable(f"{self.shown}: no connection within {self.access.timeout:g} s") from error
        except requests.exceptions.Timeout as error:
            raise Unavailable(f"{self.shown}: no reply within {self.access.timeout:g} s") from error
        except InvalidPolicy as error:  # a secret's file: people can mend it while it is tried again
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
    """The beginning of the body, if it is text: what is there after one read, so that neither a large nor a
    slow one is waited for."""
    try:
        raw = response.raw.read1(4 * EXCERPT)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return f"({type(error).__name__} while its body was read)"
    text = bytes(raw or b"").decode("utf-8", "replace")
    if text.count("\N{REPLACEMENT CHARACTER}") + text.count("\0") > NOISE * len(text):
        return "(a body that is no text)"
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:EXCERPT]


def _cause(error: BaseException) -> str:
    """The reason at the bottom of what requests and urllib3 wrapped; their own texts quote the whole URL."""
    seen: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        one = todo.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            todo += [getattr(one, "reason", None), one.__cause__, one.__context__, *one.args]
    for one in reversed(seen):
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
    return type(seen[-1]).__name__

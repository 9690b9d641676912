"""The way to the API server: one client, a time limit on every call, no hidden retries, one translation of
errors.

Every Kubernetes adapter goes through `Api.request`: JSON in, JSON out, no generated models (they cost 26 MB
and half a second, and drop what they do not know, which a route may not). Credentials, exec plugins and the
refreshing of tokens are the official library's.

There is no watch here, on purpose. canaryd lists what it needs at each beat: a list is right at once after
any outage, needs no re-list on 410, no bookmark and no thread that can hang, and at these sizes (tens of
objects each few seconds) costs a few milliseconds.
"""

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from canaryd.domain.ports import Conflict, Forbidden, Missing, Rejected, Unavailable

if TYPE_CHECKING:
    from kubernetes.client import Configuration

Json = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
AUTHENTICATION = "authentication.k8s.io/v1"
CONNECT_SECONDS = 3.0  # a reachable API server accepts in milliseconds; a black hole must not eat a look
READ_SECONDS = 10.0  # the slowest of canaryd's calls is a list of Deployments, well under a second
POOL_SIZE = 16  # one thread per rollout at work; more only means opening a connection anew
_SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


# urllib3 warns of each connection it drops; the failure itself is reported by whoever made the call.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


class KubernetesApi:
    """The API server that a kubeconfig, or the pod's own account, points to.

    kubeconfig: a path, or several joined with ":"; without it the variable KUBECONFIG, then ~/.kube/config,
    then the pod's own account. context: one of the kubeconfig, other than its current one. Raises Rejected
    when none of these can be read. Nothing is asked of the server yet, so it may be down. Safe to share
    between threads.
    """

    def __init__(
        self,
        kubeconfig: str | None = None,
        context: str | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        # The library takes 0.2 s of CPU to import, which `--help` need not pay.
        from kubernetes.client import ApiClient, Configuration

        settings = Configuration()
        self.namespace = _configure(settings, kubeconfig, context)
        settings.retries = False  # urllib3's own would turn an outage into slowness
        settings.connection_pool_maxsize = POOL_SIZE
        self.client = ApiClient(settings)
        self.client.user_agent = "canaryd"
        self.server: str = settings.host
        self._timeout = (connect_seconds, read_seconds)
        # when the last answer was given, by the server's clock, as HTTP writes it
        self.said_at: str | None = None
        self._preferred: dict[str, str] = {}

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str | None = None,
        accept: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """One call; its answer as JSON.

        path: as in `/apis/apps/v1/namespaces/production/deployments`. body: an object, or the operations of a
        json-patch.
        content_type: of the body, `application/json` if left out; a patch has to say which kind it is.
        accept: other forms of an answer, in order of preference; a server may not know them. headers: further
        ones. Raises Unavailable (no answer, 408, 429, 5xx), Conflict (409, or a json-patch whose `test`
        failed), Missing (404), Rejected (any other refusal, with the server's own words).
        """
        from kubernetes.client import ApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError

        what = f"{method} {path}"
        sent = {**(headers or {}), "Accept": accept}
        if body is not None:
            sent["Content-Type"] = content_type or "application/json"
        try:
            call = self.client.param_serialize(
                method,
                path,
                header_params=sent,
                query_params=list((query or {}).items()),
                body=body,
                auth_settings=["BearerToken"],
            )
            answer: Any = self.client.call_api(*call, _request_timeout=self._timeout)
            raw: bytes = answer.read() or b""
            self.said_at = answer.getheader("Date")
        except (HTTPError, OSError) as error:
            raise Unavailable(f"{what}: the API server at {self.server} did not answer: {error}") from error
        except ApiException as error:  # TLS trouble: the library wraps it so, with status 0
            raise Unavailable(
                f"{what}: no safe connection to the API server at {self.server}: {error.reason}"
            ) from error
        except ConfigException as error:  # a token that could not be renewed
            raise Unavailable(f"{what}: the credentials could not be renewed: {error}") from error
        if not 200 <= answer.status < 300:
            raise _refusal(what, answer.status, answer.reason or "", raw, content_type)
        return _parsed(what, raw)

    def delete_as_read(self, path: str, obj: Json, dry_run: bool = False) -> bool:
        """Deletes an object if it is as it was read; whether it was there still. Raises as `request`:
        Conflict when it was edited."""
        metadata = obj["metadata"]
        body: Json = {
            "preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        }
        if dry_run:
            body["dryRun"] = ["All"]  # here, since the server looks at no query of a deletion that has a body
        try:
            self.request("DELETE", path, body)
        except Missing:
            return False
        return True

    def clock(self) -> float | None:
        """Unix seconds by the server's clock when it last answered; None where it did not say."""
        return parsedate_to_datetime(self.said_at).timestamp() if self.said_at else None

    def age(self, obj: Json) -> float:
        """For how many seconds at least an object has been there, by the server's own clock, whichever
        process made it. Both times are whole seconds, so that the difference may be one too many."""
        made = datetime.fromisoformat(obj["metadata"]["creationTimestamp"]).timestamp()
        now = self.clock()
        return max(0.0, (time.time() if now is None else now) - made - 1)

    def version(self) -> str:
        """The server's version, as `v1.36.3`: the cheapest question that proves it reachable. Raises as
        `request`."""
        return str(self.request("GET", "/version").get("gitVersion", ""))

    def user(self) -> str:
        """Who asks, by the name that the server knows; "" where it does not tell. Raises as `request`."""
        body = {"apiVersion": AUTHENTICATION, "kind": "SelfSubjectReview"}
        review = self.request("POST", path_to(AUTHENTICATION, "selfsubjectreviews"), body)
        return str(((review.get("status") or {}).get("userInfo") or {}).get("username") or "")

    def preferred_version(self, group: str) -> str:
        """The version of an API group that the server itself prefers, asked once. Raises Missing when the
        group is not installed."""
        if group not in self._preferred:
            try:
                found = self.request("GET", f"/apis/{group}")
            except Missing as error:
                raise Missing(
                    f"the API server at {self.server} has no API group {group}: are its CRDs installed?"
                ) from error
            self._preferred[group] = str(found["preferredVersion"]["version"])
        return self._preferred[group]


def path_to(
    version: str, plural: str, namespace: str | None = None, name: str | None = None, part: str | None = None
) -> str:
    """The path of a resource: version as in `v1` or `apps/v1`; without namespace all of them; part: a
    subresource."""
    path = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if namespace is not None:
        path += f"/namespaces/{quote(namespace, safe='')}"
    path += f"/{plural}"
    if name is not None:
        path += f"/{quote(name, safe='')}"
    return path + (f"/{part}" if part else "")


def _configure(settings: "Configuration", kubeconfig: str | None, context: str | None) -> str:
    """Fills in server and credentials; the namespace that goes with them."""
    from kubernetes import config
    from kubernetes.config import ConfigException

    path = kubeconfig or os.environ.get("KUBECONFIG") or ""
    default = Path.home() / ".kube" / "config"
    if not path and (default.is_file() or context):
        path = str(default)
    if not path and "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise Rejected(
            f"no Kubernetes cluster to talk to: wanted --kubeconfig, KUBECONFIG, {default} or a pod's "
            "account; found none"
        )
    try:
        if not path:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            return (
                _SERVICE_ACCOUNT_NAMESPACE.read_text(encoding="utf-8").strip()
                if _SERVICE_ACCOUNT_NAMESPACE.is_file()
                else "default"
            )
        # Not persisted: a kubeconfig is the user's file, and in a pod it is read-only.
        config.load_kube_config(
            config_file=path, context=context, client_configuration=settings, persist_config=False
        )  # type: ignore[no-untyped-call]
        contexts, current = config.list_kube_config_contexts(config_file=path)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, ValueError, TypeError) as error:
        raise Rejected(f"the kubeconfig {path or 'of this pod'} cannot be used: {error}") from error
    chosen = (
        next((known_context for known_context in contexts if known_context["name"] == context), current)
        if context
        else current
    )
    return str(chosen["context"].get("namespace") or "default")


def _parsed(what: str, raw: bytes) -> Json:
    try:
        answer = json.loads(raw) if raw else {}
    except ValueError as error:  # a proxy's page, or an answer cut short
        raise Unavailable(f"{what}: wanted JSON, but the answer begins {raw[:60]!r}") from error
    if not isinstance(answer, dict):
        raise Unavailable(f"{what}: wanted a JSON object, but the answer begins {raw[:60]!r}")
    return answer


def _refusal(what: str, status: int, reason: str, raw: bytes, content_type: str | None) -> Exception:
    """The server's refusal as one of the domain's errors, in the server's words."""
    try:
        answer = json.loads(raw)
        message = str(answer.get("message") or reason)
        causes = (answer.get("details") or {}).get("causes")
    except (ValueError, AttributeError):
        message, causes = raw[:200].decode("utf-8", "replace") or reason, None
    text = f"{what}: {status}: {message}"
    if status in (408, 429) or status >= 500:
        return Unavailable(text)
    if status == 409:
        return Conflict(text)
    # A failed `test` names no field; a patch that makes an object invalid names those it broke, and is no
    # conflict.
    if status == 422 and content_type == JSON_PATCH and not causes:
        return Conflict(text)
    if status == 404:
        return Missing(text)
    if status == 403:
        return Forbidden(text)
    if status == 401:
        return Rejected(f"{text} (are the credentials still valid?)")
    return Rejected(text)

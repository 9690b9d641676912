"""CloudEvents 1.0 over HTTP, signed by the rules of Standard Webhooks: what webhooks and gates have in
common.

This module posts events and writes verdicts into them. `webhook.py` and `gate_client.py` decide what an event
says and what a reply means.
"""

import base64
import binascii
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import standardwebhooks
from cloudevents.conversion import to_structured
from cloudevents.http import CloudEvent

from canaryd.adapters.notify.http_post import HttpReply, Poster, ReceiverAccess, moment
from canaryd.domain.policy.validation import InvalidPolicy
from canaryd.domain.ports import Unavailable
from canaryd.domain.verdict import MetricFinding, Verdict

KEY_BYTES = (24, 64)  # the least and the most bytes of a secret in Standard Webhooks
MOST_ODDS = 1e300  # JSON has no infinity; higher odds are written as this


class SignedPoster:
    """Posts signed events to one URL."""

    def __init__(
        self,
        url: str,
        secret: Callable[[], str | None] = lambda: None,
        access: ReceiverAccess | None = None,
        clock: Callable[[], float] = time.time,
        reads_success: bool = False,
    ) -> None:
        """secret: gives the secret as it is now, `whsec_` and base64; None: unsigned. It is called on every
        try, so that a rotated secret is picked up, and may raise InvalidPolicy. clock: Unix seconds, for the
        signature's time. reads_success: whether the body of a 2xx reply is read as well. Raises ValueError
        for an invalid URL, timeout or secret."""
        self._poster = Poster(url, access, reads_success)
        self._secret = secret
        self._clock = clock
        _signer(secret())

    @property
    def shown(self) -> str:
        """The URL's scheme and host, for messages."""
        return self._poster.shown

    def post(self, event: CloudEvent) -> HttpReply:
        """Sends an event once. Raises Unavailable (no reply, or a secret that cannot be read now), Rejected
        (the event cannot be sent at all)."""
        headers, body = to_structured(event)
        try:
            signer = _signer(self._secret())
        except (InvalidPolicy, ValueError) as error:  # a file in the middle of a rotation
            raise Unavailable(f"{self.shown}: {error}") from error
        return self._poster.post(body, {**headers, **self._signature(signer, event["id"], body)})

    def _signature(self, signer: standardwebhooks.Webhook | None, name: str, body: bytes) -> dict[str, str]:
        # A repeated try is signed with its own time: receivers refuse signatures older than five minutes.
        sent = datetime.fromtimestamp(math.floor(self._clock()), UTC)
        headers = {"webhook-id": name, "webhook-timestamp": str(int(sent.timestamp()))}
        if signer is not None:
            headers["webhook-signature"] = signer.sign(msg_id=name, timestamp=sent, data=body.decode())
        return headers


def identity(name: str) -> str:
    """An id with _ for each dot: Standard Webhooks allows no dots in an id, since dots separate id, time and
    body where they are signed.

    Different ids stay different, since the names of Kubernetes objects have no _.
    """
    return name.replace(".", "_")


def event(kind: str, name: str, about: tuple[str, str, str], at: float, data: dict[str, Any]) -> CloudEvent:
    """Builds a CloudEvent. kind: its type; name: its id; about: namespace, service and rollout; at: Unix
    seconds; data: its JSON payload."""
    namespace, service, rollout = about
    return CloudEvent(
        {
            "specversion": "1.0",
            "id": identity(name),
            "type": kind,
            "source": f"/canaryd/{namespace}/{service}",
            "subject": rollout,
            "time": moment(at),
            "datacontenttype": "application/json",
        },
        data,
    )


def verdict_data(verdict: Verdict | None) -> dict[str, Any] | None:
    """A verdict as plain JSON values; a number that cannot be estimated is null."""
    if verdict is None:
        return None
    return {
        "answer": verdict.answer.value,
        "at": moment(verdict.at),
        "stage": int(verdict.stage),
        "weight": int(verdict.weight),
        "looks": int(verdict.looks),
        "odds": _odds(verdict.odds),
        "stageOdds": _odds(verdict.stage_odds),
        "bar": _odds(verdict.bar),
        "canaryRequests": int(verdict.canary_requests),
        "reason": verdict.reason,
        "findings": [_finding(finding) for finding in verdict.findings],
        "notes": list(verdict.notes),
    }


def _finding(finding: MetricFinding) -> dict[str, Any]:
    return {
        "metric": finding.metric,
        "what": finding.what,
        "answer": finding.answer.value,
        "stable": {"events": int(finding.stable_events), "requests": int(finding.stable_requests)},
        "canary": {"events": int(finding.canary_events), "requests": int(finding.canary_requests)},
        "ratio": _number(finding.ratio),
        "interval": {"low": _number(finding.low), "high": _number(finding.high)},
        "tolerated": _number(finding.tolerated),
        "unacceptable": _number(finding.unacceptable),
        "toleratedIncrease": _number(finding.tolerated_increase),
        "unacceptableIncrease": _number(finding.unacceptable_increase),
        "odds": _odds(finding.odds),
        "bar": _odds(finding.bar),
        "cleared": _odds(finding.cleared),
        "clearBar": _odds(finding.clear_bar),
        "value": _number(finding.value),
        "limit": _number(finding.limit),
        "says": finding.says,
        "dryRun": finding.dry_run,
        **({"service": finding.service} if finding.service else {}),
        **({"since": moment(finding.since)} if finding.since is not None else {}),
    }


def _number(value: float | None) -> float | None:
    """The number; None for those that JSON does not have: an interval without an end, a ratio to zero."""
    return float(value) if value is not None and math.isfinite(value) else None


def _odds(value: float) -> float | None:
    return None if math.isnan(value) else float(max(0.0, min(value, MOST_ODDS)))


def _signer(secret: str | None) -> standardwebhooks.Webhook | None:
    if secret is None:
        return None
    # The library decodes any text and drops what is not base64: a passphrase would become a key that no
    # receiver has.
    prefix, _, encoded = secret.partition("_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    least, most = KEY_BYTES
    if prefix != "whsec" or not least <= len(key) <= most:
        wanted = (
            f"whsec_ followed by the base64 of {least} to {most} random bytes (`openssl rand -base64 32`)"
        )
        raise ValueError(f"secret must be {wanted}, but is something else")
    return standardwebhooks.Webhook(key)

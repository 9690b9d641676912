"""Announcements as CloudEvents 1.0 over HTTP, signed as Standard Webhooks has it.

One try is made here, and what its reply means is said here; when to try again is `delivery.py`'s. The id of the event and of the
webhook is the announcement's own (with _ for each dot), so a receiver that has seen it knows what it may ignore.
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

from canaryd.adapters.posting import Access, Poster, moment
from canaryd.domain.ports import Rejected, Unavailable
from canaryd.domain.problems import Refused
from canaryd.domain.rollout import Announcement
from canaryd.domain.verdict import Finding, Verdict

TYPE = "dev.canaryd.rollout."  # before the event: dev.canaryd.rollout.rolled_back
KEY_BYTES = (24, 64)  # of a secret, at least and at most, as Standard Webhooks has it
MOST_ODDS = 1e300  # JSON has no infinity; odds beyond this are told as this


class Webhook:
    """One receiver of webhooks."""

    def __init__(
        self,
        url: str,
        secret: Callable[[], str | None] = lambda: None,
        access: Access | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """secret: gives `whsec_` and base64 as it is now (None: unsigned), asked on every try, so that a rotated one is picked up; it may
        raise Refused. clock: Unix seconds, for the signature's time. Raises ValueError, for a secret in another form too."""
        self._poster = Poster(url, access)
        self._secret = secret
        self._clock = clock
        _signer(secret())

    def send(self, announcement: Announcement) -> None:
        """Tries once.

        Raises Unavailable for every refusal but one: a receiver that answers 401 or 404 is mended by people while it is tried
        again, and Standard Webhooks too counts all but 2xx as a failure to repeat. 410 Gone says "never again": Rejected.
        """
        headers, body = to_structured(envelope(announcement))
        try:
            signer = _signer(self._secret())
        except (Refused, ValueError) as error:  # a file in the middle of a rotation
            raise Unavailable(f"{self._poster.shown}: {error}") from error
        reply = self._poster.post(body, {**headers, **self._signature(signer, identity(announcement), body)})
        if reply.status == 410:
            raise Rejected(f"{self._poster.shown} is gone for good ({reply})")
        if not reply.ok:
            raise Unavailable(f"{self._poster.shown} answered {reply}")

    def _signature(self, signer: standardwebhooks.Webhook | None, name: str, body: bytes) -> dict[str, str]:
        # A repeated try is signed with its own time: receivers refuse signatures older than five minutes.
        sent = datetime.fromtimestamp(math.floor(self._clock()), UTC)
        headers = {"webhook-id": name, "webhook-timestamp": str(int(sent.timestamp()))}
        if signer is not None:
            headers["webhook-signature"] = signer.sign(msg_id=name, timestamp=sent, data=body.decode())
        return headers


def identity(announcement: Announcement) -> str:
    """Its id without dots: these part id, time and body where they are signed, and Standard Webhooks lets no id have one.

    Two ids stay two, since Kubernetes' names have no _ that a dot could be taken for.
    """
    return announcement.id.replace(".", "_")


def envelope(announcement: Announcement) -> CloudEvent:
    """The announcement as a CloudEvent; its data are `payload(announcement)`."""
    return CloudEvent(
        {
            "specversion": "1.0",
            "id": identity(announcement),
            "type": TYPE + announcement.event,
            "source": f"/canaryd/{announcement.namespace}/{announcement.service}",
            "subject": announcement.rollout,
            "time": moment(announcement.at),
            "datacontenttype": "application/json",
        },
        payload(announcement),
    )


def payload(announcement: Announcement) -> dict[str, Any]:
    """Everything that is known of the moment, in numbers, as plain JSON values; what cannot be estimated is null."""
    return {
        "event": announcement.event,
        "namespace": announcement.namespace,
        "service": announcement.service,
        "rollout": announcement.rollout,
        "versions": {"stable": announcement.stable, "canary": announcement.canary},
        "stage": int(announcement.stage),
        "weight": int(announcement.weight),
        "share": announcement.share or f"{announcement.weight}%",
        "reason": announcement.reason,
        "at": moment(announcement.at),
        "verdict": None if announcement.verdict is None else _verdict(announcement.verdict),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
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


def _finding(finding: Finding) -> dict[str, Any]:
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
        "odds": _odds(finding.odds),
        "bar": _odds(finding.bar),
        "cleared": _odds(finding.cleared),
        "clearBar": _odds(finding.clear_bar),
        "value": _number(finding.value),
        "limit": _number(finding.limit),
        "says": finding.says,
        "dryRun": finding.dry_run,
    }


def _number(value: float | None) -> float | None:
    """The number, or null where JSON has none: an interval without an end, a ratio to nothing."""
    return float(value) if value is not None and math.isfinite(value) else None


def _odds(value: float) -> float | None:
    return None if math.isnan(value) else float(max(0.0, min(value, MOST_ODDS)))


def _signer(secret: str | None) -> standardwebhooks.Webhook | None:
    if secret is None:
        return None
    # The library decodes anything, dropping what is no base64: a passphrase would become a key that no receiver has.
    prefix, _, encoded = secret.partition("_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    least, most = KEY_BYTES
    if prefix != "whsec" or not least <= len(key) <= most:
        wanted = f"whsec_ followed by the base64 of {least} to {most} random bytes (`openssl rand -base64 32`)"
        raise ValueError(f"secret must be {wanted}, and is something else")
    return standardwebhooks.Webhook(key)

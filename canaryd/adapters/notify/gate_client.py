"""Asks gates over HTTP in the background: each question has a thread, so that a gate that hangs delays
nothing else.

A gate gets a signed CloudEvent and answers by its HTTP status. 2xx opens the gate, except 202 (accepted, not
done yet). Anything else keeps it closed, also a redirect, no answer or a failure of TLS; then it is asked
again, with the same id. Nothing is stored here: a restarted daemon asks again what its records do not show as
answered.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from canaryd.adapters.notify.cloudevents import SignedPoster, event, verdict_data
from canaryd.adapters.notify.http_post import ReceiverAccess, moment
from canaryd.domain.gates import GateQuestion, GateReply
from canaryd.domain.ports import Clock, Rejected, Unavailable

TYPE = "dev.canaryd.gate.asked"
NOT_YET = 202  # the question was accepted, and its answer is not known yet
FORGOTTEN = 600.0  # s after which a question for whose answer nobody waits is forgotten
ENDLESS = 3.0  # times the timeout, after which a reply that trickles in is not waited for


@dataclass(frozen=True, slots=True)
class Known:
    """A gate of the settings. secret: gives the secret as it is now (None: unsigned), as for
    `SignedPoster`."""

    url: str
    secret: Callable[[], str | None]
    access: ReceiverAccess


@dataclass(slots=True)
class _Asked:
    """The state of one question, in monotonic seconds. wanted: when its reply was last wanted. began: when
    the try under way began; None: there is none. again: when it is asked again; None: at once, or never if
    the gate is open. reply: the last one."""

    wanted: float
    began: float | None = None
    again: float | None = None
    reply: GateReply | None = None


class HttpGates:
    """Asks gates over HTTP: implements the port `Gates`."""

    def __init__(
        self,
        known: Mapping[str, Known],
        clock: Clock,
        on_reply: Callable[[GateQuestion, GateReply], None] = lambda question, reply: None,
    ) -> None:
        """known: the gates of the settings, by name. on_reply: called with every reply, from the questions'
        threads. Raises ValueError for a gate with an invalid URL or secret."""
        for name, gate in known.items():
            try:
                SignedPoster(gate.url, gate.secret, gate.access)
            except ValueError as error:
                raise ValueError(f"gate {name}: {error}") from error
        self._known, self._clock, self._on_reply = known, clock, on_reply
        self._lock = threading.Lock()
        self._asked: dict[str, _Asked] = {}

    def ask(self, question: GateQuestion) -> GateReply | None:
        """Returns the last reply to a question, or None if there is none yet, and asks the gate in the
        background if it is due. Never blocks."""
        now = time.monotonic()
        with self._lock:
            self._asked = {
                name: asked for name, asked in self._asked.items() if now - asked.wanted < FORGOTTEN
            }
            asked = self._asked.setdefault(question.id, _Asked(now))
            asked.wanted = now
            if asked.began is not None:
                return self._trickling(asked, question, now)
            if (asked.reply is not None and asked.reply.opens) or (
                asked.again is not None and now < asked.again
            ):
                return asked.reply
            asked.began = now
        threading.Thread(
            target=self._try, args=(question, asked), name=f"gate-{question.rollout}", daemon=True
        ).start()
        return asked.reply

    def _trickling(self, asked: _Asked, question: GateQuestion, now: float) -> GateReply | None:
        """The last reply; a closed one if the try under way does not end because the gate sends a byte now
        and then."""
        if asked.began is not None and now - asked.began > ENDLESS * question.gate.timeout:
            return GateReply(False, f"no complete reply within {now - asked.began:.0f} s", self._clock.now())
        return asked.reply

    def _try(self, question: GateQuestion, asked: _Asked) -> None:
        try:
            opens, says = self._answer(question)
        except Exception as error:  # a fault of canaryd's own: reported as the reply, and tried again
            opens, says = False, f"{type(error).__name__}: {error}"
        reply = GateReply(opens, says, self._clock.now())
        with self._lock:
            asked.began, asked.reply, asked.again = None, reply, time.monotonic() + question.gate.every
        self._on_reply(question, reply)

    def _answer(self, question: GateQuestion) -> tuple[bool, str]:
        gate = self._known.get(question.gate.target)
        if gate is None and not question.gate.is_url:
            return (
                False,
                f"no gate has this name; the settings define {', '.join(sorted(self._known)) or 'no gate'}",
            )
        url = gate.url if gate is not None else question.gate.target
        access = replace(gate.access if gate is not None else ReceiverAccess(), timeout=question.gate.timeout)
        shown = ""
        try:
            signed = SignedPoster(
                url,
                gate.secret if gate is not None else lambda: None,
                access,
                self._clock.now,
                reads_success=True,
            )
            shown = signed.shown
            reply = signed.post(_event(question))
        except (Unavailable, Rejected, ValueError) as error:
            return False, str(error).removeprefix(f"{shown}: ")
        return reply.ok and reply.status != NOT_YET, f"{reply}{_hint(reply.status)}"


def _hint(status: int) -> str:
    """An explanation of a status that is no plain refusal; "" otherwise."""
    if status == NOT_YET:
        return " (accepted, not done yet)"
    return " (redirects are not followed)" if 300 <= status < 400 else ""


def _event(question: GateQuestion) -> Any:
    about = question.namespace, question.service, question.rollout
    return event(TYPE, question.id, about, question.since, payload(question))


def payload(question: GateQuestion) -> dict[str, Any]:
    """A question's payload: all that is known of the moment, as plain JSON values."""
    return {
        "gate": question.gate.name,
        "before": question.gate.before,
        "namespace": question.namespace,
        "service": question.service,
        "rollout": question.rollout,
        "versions": {"stable": question.stable, "canary": question.canary},
        "mode": question.mode,
        "stage": question.stage,
        "weight": question.weight,
        "nextWeight": question.next_weight,
        "since": moment(question.since),
        "verdict": verdict_data(question.verdict),
        **({"bracket": [asdict(versions) for versions in question.bracket]} if question.bracket else {}),
    }

"""Going through a past: reading one out of telemetry, and letting a policy meet it. Both by the walk of a
live rollout (`control/evidence_stream.py`).

What `read_out` hands over is all that `backtest` asks for, and neither writes or decides anything.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, floor

from canaryd.commands.backtest import backtest as fold
from canaryd.commands.backtest.backtest import Course
from canaryd.control.evidence_stream import BATCH_LOOKS, EvidenceStream, JudgedLook
from canaryd.domain.counts import HISTORY_LOOKS, Look, Source, Target
from canaryd.domain.policy.metrics import HTTP_FAILURES
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Presence, Rejected, Telemetry, Unavailable
from canaryd.domain.recording import Past
from canaryd.domain.rollout import Rollout, Span, together
from canaryd.domain.series_values import SeriesValues, columns
from canaryd.domain.verdict import Answer, Verdict
from canaryd.report.reporting_judge import reporting_judge_of

Take = Callable[[Look, Mapping[str, float | None]], None]


# ---------------------------------------------------------------- which past


def past_between(
    policy: Policy, versions: tuple[str, str], workloads: tuple[str, str], start: float, end: float
) -> Past:
    """The past between two moments. Raises Rejected when there is no whole look between them."""
    interval, first = policy.analysis.interval, ceil(start)
    looks = floor(end - first) // interval
    if looks < 1:
        raise Rejected(
            f"the time must hold at least one look of {interval} s, but is {max(0.0, end - start):.0f} s long"
        )
    errors = policy.analysis.errors
    return Past(
        namespace=policy.service.namespace,
        service=policy.service.name,
        stable=versions[0],
        canary=versions[1],
        stable_workload=workloads[0],
        canary_workload=workloads[1],
        interval=interval,
        since=first - HISTORY_LOOKS * interval,
        start=first,
        end=first + looks * interval,
        policy=policy,
        reporter=policy.analysis.reporter,
        grpc_failures=errors.grpc_failures if errors else (),
        http_failures=errors.http_failures if errors else HTTP_FAILURES,
        queries=(*policy.analysis.asked, *policy.analysis.asked_of_alerts),
    )


def past_of(rollout: Rollout, readable: float) -> Past:
    """The past of a rollout, up to its end or to what can be read by now. Raises Rejected when no stage's
    looks had begun, and for one of several services, whose verdicts are not one past's."""
    if rollout.is_bracket:
        raise Rejected(
            f"{rollout.name} is of {together(rollout.service_names)}, and a past is of one service: say "
            "which with --policies (of that service alone), --stable, --canary and --from"
        )
    if not rollout.spans or rollout.spans[0].start + rollout.policy.analysis.interval > readable:
        raise Rejected(
            f"{rollout.name} has no looks yet: none of its stages has begun ({rollout.phase.value}: "
            f"{rollout.reason})"
        )
    interval, began, first = rollout.policy.analysis.interval, floor(rollout.began), rollout.spans[0].start
    # One look more than the rollout took, so that the last one of the grid is whole; none that is not.
    end = readable if rollout.ended is None else min(rollout.ended + interval, readable)
    service = rollout.entrance
    names = (service.stable, service.canary), (service.stable_workload, service.canary_workload)
    grid = past_between(rollout.policy, *names, began, end)
    # People were told with the findings of each; what is kept says when, what and at which odds.
    decisions = tuple(
        replace(decision, verdict=replace(decision.verdict, findings=()) if decision.verdict else None)
        for decision in rollout.decisions
    )
    bare = replace(rollout, announcements=(), decisions=decisions).with_verdict(None)
    bare = bare.with_service(replace(bare.entrance.with_route(origin={}, confirmed=None), counted={}))
    # before it the canary had no traffic to be judged by
    start = began + ceil((first - began) / interval) * interval
    return replace(grid, start=start, rollout=bare)


# ---------------------------------------------------------------- reading it out


@dataclass
class Tape:
    """Telemetry whose every answer is taken down. A query that has no value says why once; an outage ends the
    reading."""

    telemetry: Telemetry
    take: Take
    problems: dict[str, str] = field(default_factory=dict)  # why a query has no value
    taken: set[tuple[int, int]] = field(default_factory=set)  # windows: each is taken down once
    failure: Unavailable | None = None
    _untaken: list[Look] = field(default_factory=list)
    _values: dict[str, Mapping[int, float | None]] = field(default_factory=dict)  # by the look's end

    def read(
        self, targets: Sequence[Target], start: int, end: int, step: int
    ) -> Mapping[Target, Sequence[Look]]:
        self.hand_over()
        answers = self.telemetry.read(targets, start, end, step)
        (self._untaken,) = ([*looks] for looks in answers.values())
        return answers

    def measure(self, target: Target, promql: str, start: int, end: int, step: int) -> Sequence[float | None]:
        try:
            values = self.telemetry.measure(target, promql, start, end, step)
        except Rejected as error:
            self.problems.setdefault(promql, str(error))
            values = [None] * ((end - start) // step)
        except Unavailable as error:
            # a case goes on without a query's values; a recording that lacks them would be another past
            self.failure = error
            values = [None] * ((end - start) // step)
        self._values[promql] = dict(zip(range(start + step, end + 1, step), values, strict=False))
        return values

    def measure_each(
        self, target: Target, promql: str, start: int, end: int, step: int
    ) -> Sequence[SeriesValues | None]:
        looks: Sequence[SeriesValues | None] = [None] * ((end - start) // step)
        try:
            looks = self.telemetry.measure_each(target, promql, start, end, step)
        except Rejected as error:
            self.problems.setdefault(promql, str(error))
        except Unavailable as error:
            self.failure = error
        for name, values in columns(promql, looks).items():
            at_ends = zip(range(start + step, end + 1, step), values, strict=False)
            # Of a series only where it has a value: it may be gone for most of a long window.
            self._values[name] = {at: value for at, value in at_ends if name == promql or value is not None}
        return looks

    def sources(self, target: Target, start: int, end: int) -> Sequence[Source]:
        """None, as in a recording: nothing is decided by who sent the requests."""
        return ()

    def presence(self, target: Target, start: int, end: int) -> Presence:
        """Nothing: why there was no data then is not known."""
        return Presence()

    def hand_over(self) -> None:
        """What was read last, now that its queries have been asked too. Raises Unavailable when one was not
        answered."""
        if self.failure is not None:
            raise self.failure
        for look in self._untaken:
            if (look.start, look.end) not in self.taken:
                self.taken.add((look.start, look.end))
                at = look.end  # only those of whole looks are asked for
                self.take(look, {name: values[at] for name, values in self._values.items() if at in values})
        self._untaken, self._values = [], {}


def read_out(
    past: Past, telemetry: Telemetry, take: Take, read: Callable[[int], None] = lambda looks: None
) -> Mapping[str, str]:
    """Reads a past, look by look, first its grid and then the rollout's own; why a query has no value, by
    PromQL.

    Each window is taken down once. Where a rollout split matched users its own looks come first: those of
    such a stage hold their requests alone, and its verdicts are to be had again from them. read: told how
    many looks were read since it was told last. Raises Unavailable, Rejected.
    """

    def counting(look: Look, values: Mapping[str, float | None]) -> None:
        take(look, values)
        read(1)

    tape = Tape(telemetry, counting)
    parts = [_read_grid, _read_own]
    for part in parts if past.rollout is None or not past.rollout.policy.fair_services else reversed(parts):
        part(past, tape)
    tape.hand_over()
    return tape.problems


def _read_grid(past: Past, tape: Tape) -> None:
    for start, end in _batches(past):
        target = _target(past)
        tape.read([target], start, end, past.interval)
        alerts = past.policy.analysis.asked_of_alerts
        for promql in past.queries if start >= past.start else past.policy.analysis.asked_before:
            if promql not in alerts:
                tape.measure(target, promql, start, end, past.interval)
        for promql in alerts:
            tape.measure_each(target, promql, start, end, past.interval)


def _read_own(past: Past, tape: Tape) -> None:
    if past.rollout is not None:
        rollout = fold.as_recorded(past)
        for _ in EvidenceStream(rollout, rollout.entrance, tape, 0.0, lambda policy, history: Deaf()).next(
            rollout, past.until
        ):
            pass


def looks_to_read(past: Past) -> int:
    """About how many looks `read_out` hands over."""
    own = 0
    if past.rollout is not None:
        part = past.rollout.harm_check_interval or past.interval
        own = (past.until - floor(past.rollout.began)) // part
    return (past.end - past.since) // past.interval + own


def _batches(past: Past) -> Iterator[tuple[int, int]]:
    """Stretches to be read at once; none across the start, before which only stable's values are asked
    for."""
    at, batch = past.since, BATCH_LOOKS * past.interval
    while at < past.end:
        until = min(at + batch, past.start if at < past.start else past.end)
        yield at, until
        at = until


def _target(past: Past) -> Target:
    return Target(
        namespace=past.namespace,
        stable=(past.stable_workload,),
        canary=(past.canary_workload,),
        since=past.since,
        reporter=past.reporter,
        service=past.service,
        grpc_failures=past.grpc_failures,
        http_failures=past.http_failures,
    )


class Deaf:
    """A judge that has nothing to say: where looks are only read."""

    def remember(self, past: Mapping[str, Sequence[float | None]]) -> None: ...

    def open(self, span: Span) -> None: ...

    def watch(self, look: Look, compared: bool) -> bool:
        return False

    def observe(self, look: Look, values: Mapping[str, float | None], compared: bool) -> Verdict:
        return Verdict(Answer.UNDECIDED, look.end, -1, 0)


# ---------------------------------------------------------------- trying a policy


def backtest(past: Past, policy: Policy, telemetry: Telemetry) -> Course:
    """A policy's way through a past: by the record if it is the rollout's own, else imagined. Raises Rejected
    where they do not fit."""
    if why := fold.unfit(past, policy):
        raise Rejected("; ".join(why))
    return _on_record(past, telemetry) if fold.is_own(past, policy) else _imagined(past, policy, telemetry)


def _on_record(past: Past, telemetry: Telemetry) -> Course:
    rollout = fold.as_recorded(past)
    judged: list[JudgedLook] = list(
        EvidenceStream(rollout, rollout.entrance, telemetry, 0.0).next(rollout, past.until)
    )
    counted = judged[-1].counted if judged else {}
    return fold.retold(past, [look.verdict for look in judged if look.compared], counted)


def _imagined(past: Past, policy: Policy, telemetry: Telemetry) -> Course:
    if past.end - past.start < policy.analysis.interval:
        raise Rejected(
            f"the past holds no whole look of {policy.analysis.interval} s: it is {past.end - past.start} s "
            "long"
        )
    rollout = fold.imagined(past, policy)
    case = EvidenceStream(
        rollout,
        rollout.entrance,
        telemetry,
        0.0,
        partial(reporting_judge_of, by_weight=False),
        imagined=True,
    )
    verdicts: list[Verdict] = []
    before = -1
    while not rollout.phase.ended and case.position != before:  # else the past has ended
        before = case.position
        for judged in case.next(rollout, past.end):
            spans = rollout.spans
            verdicts.append(judged.verdict)
            rollout = fold.step(rollout, judged.verdict, judged.counted, judged.look.sampled)
            if rollout.spans != spans:
                break  # what follows is another stage's
    return Course(policy, rollout, tuple(verdicts), False)


__all__ = ["Course", "backtest", "looks_to_read", "past_between", "past_of", "read_out"]

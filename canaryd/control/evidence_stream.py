"""The evidence about one service of a rollout: its telemetry, read window by window and folded through the
judge.

A live look, recovery after a restart and a replay are the same walk over the same windows; a restart begins
it again at the beginning of the record. Nothing of it is stored. A look is read in parts, as short as the
rollout's `harm_check_interval`: plain harm is looked for in each of them, and ends the look where it shows.
What was judged and could not be saved is handed out again, so that no verdict is lost with a write that
failed.

The looks of different rollouts lie on grids of their own (from each stage's start), so their windows seldom
coincide and are read rollout by rollout: three queries a look, where sharing a grid would hold every stage up
by half a look on average.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import Protocol

import structlog

from canaryd.domain.counts import HISTORY_LOOKS, Counts, Look, Source, Target, joined
from canaryd.domain.policy.alerts import ALERTS
from canaryd.domain.policy.metrics import HTTP_FAILURES, Query
from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Rejected, Telemetry, Unavailable
from canaryd.domain.rollout import Rollout, ServiceRollout, Span
from canaryd.domain.series_values import SeriesValues, columns
from canaryd.domain.verdict import Answer, Verdict
from canaryd.report import missing_telemetry
from canaryd.report.reporting_judge import reporting_judge_of

log = structlog.get_logger()


class JudgePort(Protocol):
    """What a judge of `analysis` is to control; tests put a scripted one in its place."""

    def remember(self, past: Mapping[str, Sequence[float | None]]) -> None: ...

    def open(self, span: Span) -> None: ...

    def watch(self, look: Look, compared: bool) -> bool: ...

    def observe(self, look: Look, values: Mapping[str, float | None], compared: bool) -> Verdict: ...


JudgeOf = Callable[[Policy, Sequence[Look]], JudgePort]

EMPTY_LOOKS = 6  # looks in a row without canary traffic ...
EMPTY_EXPECTED = 10.0  # ... in which the weight promised at least so many requests: then it is no chance
# seconds after which it is asked again who sends the requests that do not follow the weight
ASK_AGAIN = 120.0
SENDERS_PAST = 600  # seconds of requests that are asked for: more say little of now
BATCH_LOOKS = 240  # read at once when catching up; bounds memory and the time a replay can block


@dataclass(frozen=True, slots=True)
class LookWindow:
    """A stretch to read: looks of `step` seconds from start to end. span: whose looks these are; None:
    traffic at a weight in change."""

    start: int
    end: int
    step: int
    span: Span | None


@dataclass(frozen=True, slots=True)
class JudgedLook:
    """One look as judged.

    compared: it belongs to a span and was held against the canary. counted: by replica, everything since the
    beginning up to its end.
    had_data: whether there was anything to judge by. latest: no further look was due.
    """

    look: Look
    verdict: Verdict
    compared: bool
    counted: Mapping[str, Counts]
    had_data: bool
    latest: bool


@dataclass(slots=True)
class EmptyLooks:
    """Looks in a row without a request of the canary, and how many requests were promised it in them.

    looks_so_far, served: looks of the rollout so far, and both versions' requests in them, from which a look
    without any is known to be unusual.
    """

    looks: int = 0
    expected: float = 0.0
    looks_so_far: int = 0
    served: int = 0

    def had_data(self, look: Look, promised: float, answer: Answer) -> bool:
        """Whether there was anything to judge by. Now and then a look without a request of the canary is
        chance; many are not, but where none were promised. Where the canary was served and the judge still
        has nothing, the traffic does not follow the weight.

        promised: the canary's share of both versions' requests, in per cent, that the weight or the copies
        make.
        """
        if not look.sampled:
            return False
        stable, canary = (
            sum(counts.requests for counts in side.values()) for side in (look.stable, look.canary)
        )
        usual = self.served / max(1, self.looks_so_far)
        self.looks_so_far, self.served = self.looks_so_far + 1, self.served + stable + canary
        if canary > 0 or promised == 0:
            self.looks, self.expected = 0, 0.0
            return canary == 0 or answer is not Answer.NO_DATA
        self.looks += 1
        self.expected += (
            stable * promised / (100 - promised) if stable and promised < 100 else usual * promised / 100
        )
        return self.looks < EMPTY_LOOKS or self.expected < EMPTY_EXPECTED


class EvidenceStream:
    """What has been read and judged of one service of a rollout so far. Not thread-safe; one beat works on it
    at a time."""

    def __init__(
        self,
        rollout: Rollout,
        service: ServiceRollout,
        telemetry: Telemetry,
        ingestion_delay: float,
        judge_of: JudgeOf = reporting_judge_of,
        imagined: bool = False,
    ) -> None:
        """ingestion_delay: seconds after a look's end until its samples can be read (one scrape interval, and
        the store's own). imagined: the rollout never was, so nobody called the Services that it would have
        made, and all requests count in each stage."""
        self._telemetry, self._delay = telemetry, ingestion_delay
        self._policy = rollout.policy_of(service)
        self._interval = self._policy.analysis.interval
        self._part = rollout.harm_check_interval or self._interval
        self._parts: list[Look] = []  # of the look under way, from `_position` on
        self._began = floor(rollout.began)
        since = self._began - HISTORY_LOOKS * self._interval
        self._target = target_of(service, self._policy, since)
        self._judge_of, self._imagined = judge_of, imagined
        self._judge: JudgePort | None = None
        self._position = self._began
        self._opened = 0  # spans opened at the judge
        self._empty = EmptyLooks()
        self._asked: float | None = None  # when it was asked who sends the requests
        self._absent_at: float | None = None  # when it was asked why nothing is counted ...
        self._absent = ""  # ... and the answer
        # The time before the rollout, where it is not known which alerts fired then; and whether it can be
        # known now, so that what was judged without it is to be judged anew.
        self._unread_past: LookWindow | None = None
        self._is_void = False
        self._unsaved: list[JudgedLook] = []  # judged under `_spans`, and not on the record when last asked
        self._spans = rollout.spans
        self.counted: dict[str, Counts] = {}
        self.query_problems: dict[str, str] = {}  # by PromQL: why it has no value, as told

    @property
    def position(self) -> int:
        """Up to where telemetry has been read and judged (Unix seconds)."""
        return self._position

    def fits(self, rollout: Rollout) -> bool:
        """Whether the stream can go on from this record: not when it is another rollout of the same name, nor
        when the judge has looks as compared that the record, changed since, no longer has in a span, nor when
        more is known of the time before the rollout than it was judged by."""
        if floor(rollout.began) != self._began or self._is_void:
            return False
        saved = self._saved(rollout)
        again = any(judged.look.start == saved for judged in self._unsaved)
        return self._position <= saved or (again and rollout.spans == self._spans)

    def is_behind(self, rollout: Rollout, now: float) -> bool:
        """Whether there are looks that could be read and have not been."""
        return self._due(rollout, now) is not None

    def _saved(self, rollout: Rollout) -> int:
        return rollout.counted_to if rollout.counted_to is not None else self._began

    def next(self, rollout: Rollout, now: float) -> Iterator[JudgedLook]:
        """Judges what is due and has not been judged, look by look; the caller stops asking once it has
        changed the rollout's weight.

        First come the looks that were judged before and that the record does not have, since it could not be
        saved. Raises Unavailable or Rejected, from the telemetry; nothing is lost then, the next call goes on
        from there.
        """
        saved = self._saved(rollout)
        self._unsaved = [judged for judged in self._unsaved if judged.look.end > saved]
        self._spans = rollout.spans
        is_last = self._due(rollout, now) is None
        for position, judged in enumerate(again := list(self._unsaved), start=1):
            yield replace(judged, latest=is_last and position == len(again))
        while (window := self._due(rollout, now) or self._under_way(rollout, now)) is not None:
            for look, values in self._read(window, rollout):
                judged = self._judged(look, values, window, rollout, now)
                if look.end > saved:
                    self._unsaved.append(judged)
                yield judged

    def _judged(
        self,
        look: Look,
        values: Mapping[str, float | None],
        window: LookWindow,
        rollout: Rollout,
        now: float,
    ) -> JudgedLook:
        promised = self._policy.stages[window.span.stage].promised if window.span is not None else 0.0
        verdict = self._the_judge().observe(look, values, window.span is not None)
        self._count(look)
        self._position = look.end
        had_data = (
            look.sampled if window.span is None else self._empty.had_data(look, promised, verdict.answer)
        )
        latest = self._due(rollout, now) is None
        return JudgedLook(look, verdict, window.span is not None, dict(self.counted), had_data, latest)

    def _due(self, rollout: Rollout, now: float) -> LookWindow | None:
        """The looks that are over and can be read; None where there is none."""
        readable = floor(now - self._delay)
        for span in rollout.spans:
            if span.start > self._position:
                window = self._between(span.start)
                return window if window.end <= readable else None
            last = readable if span.end is None else min(span.end, readable)
            looks = min((last - self._position) // self._interval, BATCH_LOOKS)
            if looks > 0:
                return LookWindow(
                    self._position, self._position + looks * self._interval, self._interval, span
                )
            if span.end is not None and span.end <= readable:
                cut_off = self._cut_off(span, span.end)
                if cut_off is not None:
                    return cut_off
        return None

    def _cut_off(self, span: Span, end: int) -> LookWindow | None:
        """Of a look that the end of its span cut off the parts that live were read before; None where there
        are none, or they were."""
        whole = LookWindow(self._position, self._position + self._interval, self._interval, span)
        until = end - (end - self._position) % self._part_of(whole)
        return replace(whole, end=until) if until > self._read_to else None

    def _under_way(self, rollout: Rollout, now: float) -> LookWindow | None:
        """What can be read of a look that is not over, and was not; None where there is nothing."""
        window = self._next_look(rollout)
        part = self._part_of(window) if window is not None else 0
        if window is None or part >= window.step:
            return None
        parts = (floor(now - self._delay) - window.start) // part
        end = window.start + parts * part
        return replace(window, end=end) if self._read_to < end < window.start + window.step else None

    def _next_look(self, rollout: Rollout) -> LookWindow | None:
        """The next look, whether it is over or not; None where no stretch is known that it belongs to."""
        for span in rollout.spans:
            if span.start > self._position:
                return self._between(span.start)
            end = self._position + self._interval
            if span.end is None or end <= span.end:
                return LookWindow(self._position, end, self._interval, span)
        return None

    def _part_of(self, window: LookWindow) -> int:
        """Seconds of the parts that its looks are read in. Where matched users are split their requests are
        read by a target of their own, in whole looks."""
        return self._part if self._target_in(window.span) is self._target else window.step

    @property
    def _read_to(self) -> int:
        return self._parts[-1].end if self._parts else self._position

    def _between(self, start: int) -> LookWindow:
        """Up to a span that begins at `start`: looks of the usual length, and one of what is left. A single
        one would be read at whatever resolution divides it, a weekend's wait second by second."""
        left = start - self._position
        looks = min(left // self._interval, BATCH_LOOKS)
        step = self._interval if looks > 0 else left
        return LookWindow(self._position, self._position + max(looks, 1) * step, step, None)

    def _the_judge(self) -> JudgePort:
        if self._judge is None:
            history = self._telemetry.read([self._target], self._target.since, self._began, self._interval)[
                self._target
            ]
            judge = self._judge_of(self._policy, [look for look in history if look.sampled])
            before = LookWindow(self._target.since, self._began, self._interval, None)
            compared = [query for query in self._policy.analysis.queries if query.compare]
            judge.remember(
                {
                    **{
                        query.stable_name: self._measure(query, query.of_stable, before) for query in compared
                    },
                    **self._firing(before),
                }
            )
            self._judge = judge
        return self._judge

    def _open(self, judge: JudgePort, rollout: Rollout) -> None:
        begun = [span for span in rollout.spans if span.start <= self._position]
        for span in begun[self._opened :]:
            judge.open(span)
        self._opened = len(begun)

    def _target_in(self, span: Span | None) -> Target:
        """Whose requests count in a span: where matched users are split, theirs alone."""
        if span is None or self._imagined or not (called := self._policy.called(span.stage)):
            return self._target
        return replace(self._target, called=called, since=span.start)

    def _read(
        self, window: LookWindow, rollout: Rollout
    ) -> Iterator[tuple[Look, Mapping[str, float | None]]]:
        """The looks of a window that are over, each with the queries' values at its end. Where there is plain
        harm a look is over at once, and the window with it: what follows lies on another grid."""
        target, judge, part = self._target_in(window.span), self._the_judge(), self._part_of(window)
        if window.span is not None:
            self._open(judge, rollout)
        # The last part is shorter where the look is, since it ends where a stage begins.
        last = window.end - (window.end - window.start) % part
        stretches = (self._read_to, last, part), (max(self._read_to, last), window.end, window.end - last)
        parts = [
            look
            for start, end, step in stretches
            if start < end
            for look in self._telemetry.read([target], start, end, step)[target]
        ]
        measured = self._measured(window)
        for latest in parts:
            self._parts.append(latest)
            is_harmful = judge.watch(latest, window.span is not None)
            number, under_way = divmod(latest.end - window.start, window.step)
            if under_way and not is_harmful:
                continue
            look = joined(self._parts)
            if len(self._parts) > 1:
                look = replace(look, parts=tuple(map(_slim, self._parts)))
            self._parts = []
            yield look, {} if under_way else {name: series[number - 1] for name, series in measured.items()}
            if under_way:
                return

    def _measured(self, window: LookWindow) -> Mapping[str, Sequence[float | None]]:
        """The values of the policy's queries, and the alerts that fire, at the ends of a window's looks, by
        name. Alerts also while the weight is in change: one that begins then is no less the rollout's."""
        if window.end - window.start < window.step:
            return {}
        queries = self._policy.analysis.queries if window.span is not None else ()
        return {
            **{
                name: self._measure(query, promql, window)
                for query in queries
                for name, promql in query.asked.items()
            },
            **self._firing(window),
        }

    def _firing(self, window: LookWindow) -> Mapping[str, Sequence[float | None]]:
        """The alerts that fire at the ends of a window's looks, by the names of their values. "Not
        answered" is kept apart from "none fires". {}: the policy has no alerts."""
        if (alerts := self._policy.analysis.alerts) is None:
            return {}
        looks: Sequence[SeriesValues | None] = [None] * ((window.end - window.start) // window.step)
        # What fired before the rollout tells what is new: without it an old alert and a new one look alike.
        wanted = window if self._unread_past is None else self._unread_past
        try:
            found = self._telemetry.measure_each(
                self._target, alerts.promql, wanted.start, wanted.end, wanted.step
            )
        except (Unavailable, Rejected) as error:
            self._has_failed(ALERTS, alerts.promql, str(error))
            if self._judge is None:
                self._unread_past = window
        else:
            self.query_problems.pop(alerts.promql, None)
            self._is_void = wanted is not window
            looks = looks if self._is_void else found
        return columns(ALERTS, looks)

    def sources(self, rollout: Rollout, now: float) -> Sequence[Source] | None:
        """Who sent the requests of the present span's latest looks; None where it was asked a short while
        ago, or is not answered: it is of use to people, and no verdict waits for it."""
        if rollout.span is None or (self._asked is not None and now - self._asked < ASK_AGAIN):
            return None
        self._asked = now
        try:
            target = self._target_in(rollout.span)
            return self._telemetry.sources(
                target, max(rollout.span.start, self._position - SENDERS_PAST), self._position
            )
        except (Unavailable, Rejected) as error:
            log.info(
                "senders.unknown",
                namespace=self._target.namespace,
                service=self._target.service,
                reason=str(error),
            )
            return None

    def absence(self, rollout: Rollout, now: float) -> str:
        """Why nothing is counted of the workloads, as last asked; empty where that is not known, or it is
        only quiet."""
        if self._absent_at is not None and now - self._absent_at < ASK_AGAIN:
            return self._absent
        self._absent_at, before = now, self._absent
        try:
            found = self._telemetry.presence(self._target, self._position - SENDERS_PAST, self._position)
        except (Unavailable, Rejected) as error:
            log.info(
                "absence.unknown",
                namespace=self._target.namespace,
                service=self._target.service,
                reason=str(error),
            )
            return self._absent
        self._absent = missing_telemetry.describe(found, self._target.reporter, self._target.service)
        if self._absent and self._absent != before:
            log.warning(
                "traffic.uncounted",
                namespace=self._target.namespace,
                service=self._target.service,
                rollout=rollout.name,
                reason=self._absent,
            )
        return self._absent

    def follows(self) -> None:
        """The traffic follows the weight: should it stop to, it is asked at once who sends it."""
        self._asked = None

    def _measure(self, query: Query, promql: str, window: LookWindow) -> Sequence[float | None]:
        """A query that is refused, or too slow, has no value: nothing passes without it, and harm that the
        counts show does not wait for it (so what was live may know less of it than a replay)."""
        try:
            values = self._telemetry.measure(self._target, promql, window.start, window.end, window.step)
        except (Unavailable, Rejected) as error:
            self._has_failed(query.name, promql, str(error))
            return [None] * ((window.end - window.start) // window.step)
        self.query_problems.pop(promql, None)
        return values

    def _has_failed(self, name: str, promql: str, why: str) -> None:
        """Told once, when it begins or changes."""
        if self.query_problems.get(promql) != why:
            log.warning(
                "query.failed",
                namespace=self._target.namespace,
                service=self._target.service,
                query=name,
                reason=why,
            )
        self.query_problems[promql] = why

    def _count(self, look: Look) -> None:
        for replica, counts in (*look.stable.items(), *look.canary.items()):
            # Not the latency: bounds may become fewer in mid-rollout, and nobody asks for it.
            self.counted[replica] = self.counted.get(replica, Counts()) + counts.without_latency


def _slim(part: Look) -> Look:
    """What plain harm is told from: latency in several parts of each look would be most of what is kept."""
    stable, canary = (
        {name: counts.without_latency for name, counts in side.items()} for side in (part.stable, part.canary)
    )
    return replace(part, bounds=(), stable=stable, canary=canary)


def target_of(service: ServiceRollout, policy: Policy, since: int) -> Target:
    """Whose counts are read of a service. policy: its own; since: from when replicas are followed (whole Unix
    seconds)."""
    errors = policy.analysis.errors
    return Target(
        namespace=service.namespace,
        stable=(service.stable_workload,),
        canary=(service.canary_workload,),
        since=since,
        reporter=policy.analysis.reporter,
        service=service.name,
        grpc_failures=errors.grpc_failures if errors else (),
        http_failures=errors.http_failures if errors else HTTP_FAILURES,
    )

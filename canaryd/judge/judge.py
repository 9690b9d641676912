"""Folds looks into evidence, and evidence into one verdict.

A pure fold: nothing here reads a clock or the world, so the same policy, spans and looks give the same
verdicts, live, after a restart and in a backtest; and nothing grows with the looks but what a replay without
one replica needs. What is gathered is in `errors`, `latency`, `guardrails`, `queries`, `alert_watch` and
`full_weight`; how it is put into sentences, in `report.findings`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import sqrt

import numpy as np

from canaryd.domain.assessment import (
    Assessment,
    BlockLength,
    Details,
    FallenTraffic,
    Lacking,
    MissingData,
    PlainHarm,
    RateComparison,
    TrafficShare,
)
from canaryd.domain.counts import Look, total
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Span
from canaryd.domain.verdict import Answer
from canaryd.judge import details
from canaryd.judge.alert_watch import AlertWatch
from canaryd.judge.comparisons import Comparisons, Unit, fold_all
from canaryd.judge.count_vectors import (
    FAILURES,
    REQUESTS,
    SLOWER,
    TIMED,
    Replicas,
    past_vectors,
    summed,
    vectors,
)
from canaryd.judge.errors import ErrorEvidence
from canaryd.judge.fallen_traffic import TrafficWatch, requests_to_tell
from canaryd.judge.full_weight import SPEAKS, Alarm
from canaryd.judge.guardrails import Guardrails
from canaryd.judge.latency import LatencyEvidence
from canaryd.judge.metric_evidence import Excess, MetricEvidence
from canaryd.judge.plain_harm import PlainHarmWatch
from canaryd.judge.queries import ComparedQueries, QueryWatch
from canaryd.judge.replica_variation import Siblings
from canaryd.judge.sample_ratio import SampleRatio
from canaryd.judge.user_clusters import Drawn, drawn
from canaryd.judge.warm_up import Warmth
from canaryd.stats.arrays import Array

SUSPICION = 3.0  # odds against the canary at which a stage does not pass early, whatever else was ruled out
FEWEST_LOOKS = 3  # of a stage, before it can pass
FEW_BLOCKS = 3  # below which one burst and real harm look alike to the odds
ERRORS_SHARE = 0.7  # of the total's weight where latency is judged as well


class Judge:
    """Folds looks into evidence, and evidence into one verdict. Deterministic: same policy, spans and looks
    give the same verdicts."""

    def __init__(self, policy: Policy, history: Sequence[Look] = (), by_weight: bool = True) -> None:
        """history: stable's looks before the rollout, up to 360; blocks, caps and first tolerances come from
        it. by_weight: whether the spans' weights are what the traffic was split by, and so can be asked
        whether it follows them; not so in an imagined past."""
        self._policy = policy
        self._by_weight = by_weight
        self._split: SampleRatio | None = None  # of the present span, where it is asked
        self._span: Span | None = None
        self.users: Drawn | None = None  # in the present span
        self._warmth = Warmth(policy.analysis.warmup)
        self._history: Sequence[Look] = self._warmth.past(history)
        self._queries = [QueryWatch(query) for query in policy.analysis.queries]
        alerts = policy.analysis.alerts
        self.alerts = (
            AlertWatch(alerts, policy.stages, policy.analysis.interval) if alerts is not None else None
        )
        self._past: Mapping[str, Sequence[float | None]] = {}
        self.compared = ComparedQueries(policy.analysis)
        self._alarm: Excess | None = None  # what led back to the present stage
        self._failed: Assessment | None = None
        self._plain_harm = self._plain_harm_watch(history)
        self._watched_to = 0  # end of the last look in which plain harm was looked for
        self._alarm_heard_to = 0  # end of the last part of the look under way that the alarm has heard
        # requests of the canary and of both, since someone else last changed the weight
        self._shared = (0.0, 0.0)
        self._traffic = TrafficWatch(self._history)
        self._assessment = Assessment(Answer.UNDECIDED, at=0, stage=-1, weight=0, bar=self.bar)
        # The last look's: bounds only ever become fewer (see adapters/prometheus/counters.py).
        self._bounds: tuple[float, ...] = next((look.bounds for look in reversed(history) if look.bounds), ())
        self._dropped: tuple[float, ...] = ()
        self._start_gathering()

    def remember(self, past: Mapping[str, Sequence[float | None]]) -> None:
        """Stable's values of the compared queries, and which alerts fired, before the rollout, by their
        names; to be told before the first span."""
        self._past = past
        if self.alerts is not None:
            self.alerts.remember(past)
        self.compared = ComparedQueries(self._policy.analysis, past)

    def _plain_harm_watch(self, history: Sequence[Look]) -> PlainHarmWatch | None:
        analysis = self._policy.analysis
        if analysis.errors is None:
            return None
        version, replica = analysis.errors.version_down, analysis.errors.replica_down
        return PlainHarmWatch(version, replica, history, analysis.reporter == "destination")

    def _start_gathering(self, errors: ErrorEvidence | None = None) -> None:
        """Everything gathered, anew; but errors, if given."""
        policy, width = self._policy, len(self._bounds)
        self.siblings = Siblings(width)
        usable = [look for look in self._history if look.sampled]
        past = np.zeros((len(usable), SLOWER + width))
        replicas = past_vectors(usable, self._bounds)
        for place, replica in enumerate(replicas):
            past[place] = summed(replica, width)
        self.siblings.observe_past(replicas, past)
        analysis = policy.analysis
        alone, rest = analysis.errors is None or analysis.latency is None, 1.0 - self.compared.share
        self.errors = errors
        if errors is not None:
            errors.siblings = self.siblings
        elif analysis.errors is not None:
            self.errors = ErrorEvidence(
                analysis.errors, rest * (1.0 if alone else ERRORS_SHARE), past, self.siblings
            )
        self.latency: LatencyEvidence | None = None
        if analysis.latency is not None:
            share, risk = rest * (1.0 if alone else 1 - ERRORS_SHARE), analysis.false_rollback_risk
            self.latency = LatencyEvidence(analysis.latency, share, risk, self._bounds, past, self.siblings)
        self.metrics: list[MetricEvidence] = [
            metric for metric in (self.errors, self.latency) if metric is not None
        ]
        blocks = {metric.name: metric.block for metric in self.metrics}
        self.guardrails = Guardrails(policy, self._bounds, blocks)
        self.alarm = Alarm(
            analysis.errors,
            analysis.latency,
            self._bounds,
            past,
            analysis.false_rollback_risk,
            (blocks.get("errors", 1), blocks.get("latency", 1)),
        )
        self._begin_stage()

    def _begin_stage(self) -> None:
        self._looks = self.canary_replicas = 0  # the replicas are those that served in the last look
        self.stage_canary = np.zeros(SLOWER + len(self._bounds))
        self.stage_stable = np.zeros(SLOWER + len(self._bounds))

    @property
    def assessment(self) -> Assessment:
        """The latest."""
        return self._assessment

    @property
    def policy(self) -> Policy:
        return self._policy

    @property
    def queries(self) -> Sequence[QueryWatch]:
        return self._queries

    @property
    def bar(self) -> float:
        return 1.0 / self._policy.analysis.false_rollback_risk

    @property
    def clear_bar(self) -> float:
        return 1.0 / self._policy.analysis.bad_advance_risk

    @property
    def span(self) -> Span | None:
        return self._span

    @property
    def kind(self) -> str:
        """The kind of the present span's stage, which is how the canary gets its requests: see
        `Stage.kind`."""
        return self._kind_of(self._span)

    def _kind_of(self, span: Span | None) -> str:
        stages = self._policy.stages
        return stages[span.stage].kind if span is not None and 0 <= span.stage < len(stages) else "weight"

    @property
    def comparing(self) -> bool:
        """Whether there are two arms to compare."""
        return self._span is not None and self._span.weight < 100 and self.kind != "dark"

    @property
    def at_full(self) -> bool:
        """Whether the canary has all traffic, and is held against the record."""
        return self._span is not None and self._span.weight >= 100

    @property
    def blind(self) -> bool:
        """Whether nothing is known at full weight: there is no record of stable, and no stage before has
        compared anyone."""
        stages = self._policy.stages[: self._span.stage] if self._span is not None else ()
        return self.at_full and self.alarm.blind and all(stage.kind == "dark" for stage in stages)

    def open(self, span: Span) -> None:
        """A new stretch at one weight. Another stage, or another weight, begins anew what a stage must show
        for itself; span.fresh voids all that was gathered before."""
        for metric in self.metrics:
            metric.close()
        self._shared = (0.0, 0.0)
        before, self._span = self._span, span
        if self.alerts is not None:
            self.alerts.open(span)
        self.users = drawn(self._policy, span)
        if span.fresh:
            self._history = ()
            self._plain_harm = self._plain_harm_watch(())
            self.compared = ComparedQueries(self._policy.analysis)
            record = self.alarm
            self._start_gathering()
            if span.weight >= 100:
                # the new version's own record is none of the stable's that is no more
                self.alarm.remember(record)
        elif before is not None and self._kind_of(before) == "match" and before.stage != span.stage:
            self._forget_the_matched()
        if before is None or span.fresh or (before.stage, before.weight) != (span.stage, span.weight):
            self._begin_stage()
            self._traffic.begin_stage()
            self.guardrails.begin_stage()
            if self.comparing:
                self.compared.begin()
                # Nothing else leads back from there.
                self._alarm = self.alarm.excess if before is not None and before.weight >= 100 else None
                for metric in self.metrics:
                    metric.begin_stage(self.next_weight, self._alarm)
            elif self.at_full:
                self.alarm.begin()
        self._split = self._split_of(span) if self._by_weight and span.weight < 100 else None

    def _split_of(self, span: Span) -> SampleRatio | None:
        """Matched requests, and previews in a dark stage, are as many as they are."""
        if self.kind == "weight":
            return SampleRatio(
                span.weight,
                self._policy.mode == "observe",
                luck=self.users.share_luck if self.users is not None else 0.0,
            )
        stage = self._policy.stages[span.stage]
        if self.kind == "split":
            return SampleRatio(stage.promised)
        return SampleRatio(stage.promised, due=stage.said) if self.kind == "mirror" else None

    def _forget_the_matched(self) -> None:
        """The comparison of different populations ends with its stage: neither what it held against the
        canary nor what it said for it is the next stage's, where users are drawn by lot. The canary's own
        limits, and what was learnt of stable, stay."""
        alarm, siblings, guardrails = self.alarm, self.siblings, self.guardrails
        self.compared = ComparedQueries(self._policy.analysis, self._past)
        self._start_gathering()
        self.alarm.remember(alarm)
        self.siblings.remember(siblings, range(SLOWER + len(self._bounds)))
        self.guardrails.remember(guardrails)

    @property
    def next_weight(self) -> int:
        """The weight that follows the present stage, in per cent."""
        stages = self._policy.stages
        following = self._span.stage + 1 if self._span else 0
        return next((stage.weight for stage in stages[following:] if stage.weight), 100)

    @property
    def leads_back(self) -> bool:
        """Whether an alarm leads to a stage in which both versions can be compared."""
        return self._span is not None and self._policy.leads_back_to(self._span.stage) is not None

    def observe(
        self, look: Look, values: Mapping[str, float | None] = {}, compared: bool = True
    ) -> Assessment:
        """One look further. values: the policy's queries by name, at the look's end. compared=False: traffic
        at a weight in change; it is counted, guardrails hold, and nothing is compared."""
        fold_all(self.gather(look, values, compared))
        return self.conclude()

    def watch(self, look: Look, compared: bool = True) -> bool:
        """Looks for plain harm, and at full weight for an alarm, in a look, which may be a part of one that
        `observe` will be given; whether it is found there. Each stretch of time is looked at once, however
        often it is shown. compared: as in `observe`."""
        if self._alarms(look, compared):
            return True
        if self._plain_harm is None or self.kind == "dark":
            return False
        if look.end <= self._watched_to or self._plain_harm.found is not None:
            return False
        self._watched_to = look.end
        drawn_alike = self.users is None and self.kind != "match"
        self._plain_harm.observe(look, self._warmth.cold(look), drawn_alike)
        return self._plain_harm.found is not None

    def _alarms(self, look: Look, compared: bool) -> bool:
        """Whether a look at full weight, or a part of one, is the first with which its errors alarm."""
        if not (self.at_full and compared and look.sampled) or look.end <= self._alarm_heard_to:
            return False
        self._alarm_heard_to = look.end
        before = self.alarm.odds
        served = total(counts.without_latency for counts in look.canary.values())
        share = min(1.0, look.seconds / self._policy.analysis.interval)
        self.alarm.watch(float(served.failures), float(served.requests), share)
        return before < self.bar <= self.alarm.odds

    @property
    def _found_down(self) -> PlainHarm | None:
        return self._plain_harm.found if self._plain_harm is not None else None

    def gather(
        self, look: Look, values: Mapping[str, float | None] = {}, compared: bool = True
    ) -> list[tuple[Comparisons, Unit]]:
        """The first half of `observe`: what is to be gathered. `observe_all` does it for many judges at
        once."""
        for part in look.parts or (look,):
            self.watch(part, compared)
        self._alarm_heard_to = 0
        self._learn_bounds(look)
        self._warmth.observe(look)
        cold = self._warmth.cold(look)
        stable, canary = (
            vectors(counts, look.bounds, self._bounds, cold) for counts in (look.stable, look.canary)
        )
        stable_sum, canary_sum = summed(stable, len(self._bounds)), summed(canary, len(self._bounds))
        if look.sampled:
            # At full weight stable serves nothing but stragglers, which are no measure.
            self.guardrails.fold(canary_sum, np.zeros_like(stable_sum) if self.at_full else stable_sum)
        if self.alerts is not None:
            self.alerts.observe(look, values)
        missing = self._missing(look, stable_sum, canary_sum)
        units: list[tuple[Comparisons, Unit]] = []
        if compared and self._span is not None:
            for query in self._queries:
                query.observe(values, look.end)
            if not missing:
                units = self._compare(look, stable, canary)
                if self.comparing and not cold.intersection(look.canary):
                    self.compared.observe(self._queries, look.end, self.bar)
            if look.sampled:
                self._traffic.observe(look)
            if self._split is not None and look.sampled:
                self._split.observe(float(canary_sum[REQUESTS]), float(stable_sum[REQUESTS]))
        self._gathered = look, missing, compared
        return units

    def conclude(self, detailed: bool = True) -> Assessment:
        """The second half. detailed=False: what sentences are made of is left out, which costs more than the
        rest, unless something goes wrong."""
        look, missing, compared = self._gathered
        for metric in self.metrics:
            metric.settle()
        self._assessment = (
            replace(self._failed, at=look.end)
            if self._failed is not None
            else self._assessed(look, missing, compared, detailed)
        )
        if self._assessment.answer is Answer.FAIL:
            self._failed = self._assessment
        return self._assessment

    def _assessed(
        self, look: Look, missing: MissingData | None, compared: bool, detailed: bool
    ) -> Assessment:
        compared = compared and self._span is not None
        traffic = self._split.traffic if self._split is not None else None
        answer = self._answer(look, missing, compared, traffic)
        few = self.comparing and any(
            metric.block > 1 and metric.closed < FEW_BLOCKS for metric in self.metrics
        )
        odds = self.odds if self.comparing else self.alarm.odds if self.at_full else 1.0
        stage, weight = (self._span.stage, self._span.weight) if self._span is not None else (-1, 0)
        wanted = detailed or answer in (Answer.FAIL, Answer.ALARM) or few or self._is_asked_at_deadline
        return Assessment(
            answer,
            at=look.end,
            stage=stage,
            weight=weight,
            bar=self.bar,
            looks=self._looks,
            odds=odds,
            stage_odds=self.stage_odds if self.comparing else odds,
            canary_requests=int(self.stage_canary[REQUESTS]),
            few_blocks=few,
            off_weight=traffic is not None and traffic.is_off,
            contested=self.contested,
            is_compared=compared,
            is_comparing=self.comparing,
            is_ruled_out=answer is Answer.UNDECIDED and self.comparing and self._ruled_out,
            missing=missing,
            traffic=traffic,
            fallen_traffic=self._fallen_traffic() if answer is Answer.UNDECIDED and compared else None,
            details=self._details() if wanted else None,
        )

    def _fallen_traffic(self) -> FallenTraffic | None:
        """What a stage that must rule something out could not see any more, since its traffic fell."""
        if self._span is None or not self.comparing or self.kind == "match":
            return None
        fallen = self._traffic.fallen(self._policy.stages[self._span.stage].deadline)
        if fallen is None:
            return None
        wanted = requests_to_tell(
            self.errors,
            self.latency,
            self.alarm.usual,
            fallen.stable_per_canary,
            max(1, self.canary_replicas),
        )
        return replace(fallen, wanted=wanted) if fallen.canary_requests < wanted else None

    @property
    def _is_asked_at_deadline(self) -> bool:
        """Whether a metric, a query or the record may have said nothing yet, which the lifecycle asks at a
        deadline."""
        if self._over_a_limit or self.alerts is not None:
            return True
        if self.comparing and self.latency is not None and self.latency.is_beyond:
            return True
        unseen = self.latency is not None and not (
            self.timed and (self.stage_stable[TIMED] > 0 or not self.comparing)
        )
        return unseen or self.blind or bool(self._queries)

    def _details(self) -> Details:
        """All that the sentences are made of."""
        errors, latency, rates = self.errors, self.latency, self._stage_rates
        replicas = max(1, self.canary_replicas)
        records = details.records(self.alarm, errors, latency, self.stage_canary, self.bar, self.blind)
        luck = details.replica_luck(errors, latency, self.siblings, replicas)
        alarmed = details.alarmed(self._alarm, errors, latency, self.clear_bar)
        return Details(
            kind=self.kind,
            is_full_weight=self.at_full,
            clear_bar=self.clear_bar,
            reporter=self._policy.analysis.reporter,
            is_withheld=self.withheld,
            can_step_back=self.leads_back,
            is_one_replica=self.comparing and self.timed and latency is not None and latency.replicas == 1,
            errors=errors.assessed(rates, self.bar, self.clear_bar) if errors and self.comparing else None,
            latency=latency.assessed(self.bar, self.clear_bar) if latency and self.comparing else None,
            records=tuple(records) if self.at_full else (),
            lacks_latency=latency is not None and not self.timed,
            limits=self.guardrails.assessed(self.bar),
            unseen_limits=self.guardrails.unseen,
            queries=self.compared.assessed(self._queries, self.bar),
            alerts=self.alerts.assessed() if self.alerts is not None else None,
            blocks=tuple(
                BlockLength(metric.name, metric.block, metric.tau, metric.cautious_block)
                for metric in self.metrics
                if max(metric.block, metric.cautious_block) > 1
            ),
            dropped_bounds_ms=self._dropped,
            replica_luck=tuple(luck) if self.comparing else (),
            drawn_users=details.drawn_users(self.users, errors, replicas),
            plain_harm=self._found_down,
            alarmed=tuple(alarmed) if self.comparing else (),
            warm_up=details.warm_up(self._gathered[0], self._warmth),
        )

    def _answer(
        self, look: Look, missing: MissingData | None, compared: bool, traffic: TrafficShare | None
    ) -> Answer:
        if self._found_down is not None:
            return Answer.FAIL
        if self.alerts is not None and self.alerts.broken:
            return Answer.FAIL
        if (self.guardrails.odds >= self.bar).any() or any(query.broken for query in self._queries):
            return Answer.FAIL
        if self.comparing and compared and self.harmful:
            return Answer.FAIL
        if missing is not None or (compared and traffic is not None and traffic.is_off):
            return Answer.NO_DATA
        if not compared or self._span is None:
            return Answer.UNDECIDED
        if self.at_full and self.alarm.odds >= self.bar:
            return Answer.ALARM
        if self.kind == "dark":
            return Answer.PASS if self._quiet(look, self._span) else Answer.UNDECIDED
        if self.at_full or self.kind == "match":
            return Answer.PASS if self._settled(look, self._span) else Answer.UNDECIDED
        in_doubt = traffic is not None and traffic.is_in_doubt
        return Answer.PASS if self._ruled_out and not in_doubt else Answer.UNDECIDED

    @property
    def _queries_hold(self) -> bool:
        """A query without a value is no pass, nor one whose comparison is under suspicion."""
        return all(query.holds(self.comparing) for query in self._queries) and not (
            self.comparing and self.compared.suspected(SUSPICION)
        )

    @property
    def _alerts_known(self) -> bool:
        """Not to know which alerts fire is no pass: none may seem to because nobody said so."""
        return self.alerts is None or self.alerts.answered

    @property
    def _ruled_out(self) -> bool:
        """Every metric has ruled out what this stage must, none is under suspicion, no plain estimate lies
        beyond it, and there were looks enough. The stage's minimum time is the lifecycle's to keep."""
        cleared = all(
            metric.cleared >= self.clear_bar and metric.stage_odds < SUSPICION for metric in self.metrics
        )
        return (
            cleared
            and not self.contested
            and self._looks >= FEWEST_LOOKS
            and self._queries_hold
            and self._alerts_known
            and not self._over_a_limit
            and not self._looks_unacceptable
        )

    @property
    def _looks_unacceptable(self) -> bool:
        """Whether the stage's plain counts lie beyond what it must rule out. What was ruled out once stays
        ruled out as evidence, but a fault may have begun since, and nobody should read that a stage passes
        beside numbers that say the opposite."""
        errors, latency = self.errors, self.latency
        return (errors is not None and errors.is_beyond(self._stage_rates)) or (
            latency is not None and latency.is_beyond
        )

    @property
    def _stage_rates(self) -> RateComparison:
        """Failures and requests of this stage."""
        return RateComparison(
            *(
                float(side[place])
                for side in (self.stage_stable, self.stage_canary)
                for place in (FAILURES, REQUESTS)
            )
        )

    @property
    def contested(self) -> bool:
        """Whether one comparison alone keeps this stage from passing, also at its deadline: it speaks for
        harm, or it alarmed at full weight and is not ruled out here."""
        return self.comparing and self.kind != "match" and any(map(self._contests, self.metrics))

    def _contests(self, metric: MetricEvidence) -> bool:
        alarmed = self._alarm is not None and bool(
            self._alarm.places[0] if metric is self.errors else self._alarm.places[1:].any()
        )
        return metric.loudest >= SPEAKS or (alarmed and metric.cleared < self.clear_bar)

    @property
    def _over_a_limit(self) -> bool:
        """Whether the canary seems to be over a limit just now, whatever stable does."""
        return bool(self.guardrails.is_over.any())

    def _settled(self, look: Look, span: Span) -> bool:
        """Whether the minimum time and traffic have passed without harm near: so full weight passes, and a
        stage of matched requests."""
        stage, served = self._policy.stages[span.stage], self.stage_canary[REQUESTS]
        long_enough = (
            look.end - span.start >= stage.minimum and served >= self._policy.analysis.minimum_requests
        )
        is_seen = (self.latency is None or self.timed) and not self.blind
        odds = self.alarm.odds if self.at_full else self.stage_odds
        return (
            long_enough
            and is_seen
            and self._looks >= FEWEST_LOOKS
            and odds < SUSPICION
            and self._queries_hold
            and self._alerts_known
            and not self._over_a_limit
        )

    def _quiet(self, look: Look, span: Span) -> bool:
        """Dark: the minimum time, and no query beyond its limits. One may well have no value of a version
        without traffic."""
        long_enough = look.end - span.start >= self._policy.stages[span.stage].minimum
        keeps_limits = all(query.value is None or query.holds(False) for query in self._queries)
        return long_enough and keeps_limits and self._alerts_known

    def _learn_bounds(self, look: Look) -> None:
        """Without a history the first look with a histogram says which bounds there are; and where a replica
        with other buckets comes, only the bounds that all have can be compared. Latency begins anew then;
        what was gathered of errors is kept."""
        before = self._bounds
        common = tuple(bound for bound in before if bound in look.bounds) if before else look.bounds
        if not common or common == before:
            return
        self._bounds, self._dropped = (
            common,
            (*self._dropped, *(bound for bound in before if bound not in common)),
        )
        errors, alarm, siblings, guardrails = self.errors, self.alarm, self.siblings, self.guardrails
        if errors is not None:
            errors.close()
        looks = self._looks
        places = [*range(SLOWER), *(SLOWER + before.index(bound) for bound in common if bound in before)]
        served = self.stage_stable[places], self.stage_canary[places]
        self._start_gathering(errors)
        self._looks = looks
        self.stage_stable[: len(places)], self.stage_canary[: len(places)] = served
        self.alarm.remember(alarm)
        self.siblings.remember(siblings, places)
        self.guardrails.remember(guardrails)
        if self.latency is not None:
            if self._alarm is not None:
                self._alarm = self._alarm.at([0, *(1 + before.index(bound) for bound in common)])
            self.latency.begin_stage(self.next_weight, self._alarm)
        if self.at_full:
            self.alarm.begin()

    def _compare(self, look: Look, stable: Replicas, canary: Replicas) -> list[tuple[Comparisons, Unit]]:
        """stable, canary: all replicas' vectors; those of cold ones are left out here."""
        if self.comparing and self._policy.mode == "observe":
            self._close_where_resteered(stable, canary)
        cold = self._warmth.cold_in_errors(look)
        if cold:
            stable, canary = (
                {name: vector for name, vector in side.items() if name not in cold}
                for side in (stable, canary)
            )
        stable_sum, canary_sum = (summed(side, len(self._bounds)) for side in (stable, canary))
        if (cold.intersection(look.canary) and not canary_sum[REQUESTS]) or (
            self.comparing and not stable_sum[REQUESTS]
        ):
            return []  # one version is warming up as a whole
        self._looks += 1
        self.stage_canary += canary_sum
        self.stage_stable += stable_sum
        if self.at_full:
            self.alarm.fold(canary_sum)
        if self.kind == "dark":
            self.alarm.record(stable_sum)  # previews are no users
        if not self.comparing:
            return []
        self.alarm.record(stable_sum + canary_sum)
        stable_replicas = sum(vector[REQUESTS] > 0 for vector in stable.values())
        self.canary_replicas = sum(vector[REQUESTS] > 0 for vector in canary.values())
        units = []
        for metric in self.metrics:
            metric.stable_replicas, metric.users, metric.split = (
                stable_replicas,
                self.users,
                self.kind == "split",
            )
            units += metric.observe(stable_sum, canary)
        self.siblings.observe(stable, stable_sum)
        return units

    def _close_where_resteered(self, stable: Replicas, canary: Replicas) -> None:
        requests_of_each = (
            sum(float(vector[REQUESTS]) for vector in side.values()) for side in (canary, stable)
        )
        if self._resteered(*requests_of_each):
            for metric in self.metrics:
                metric.close()

    def _resteered(self, canary: float, stable: float) -> bool:
        """Whether whoever steers has set another weight since the open blocks began: looks at different
        weights are never added up, since one that is bad for both versions would then be held against the one
        that had more of it (Simpson's paradox)."""
        (of_canary, of_both), both = self._shared, canary + stable
        pooled = (of_canary + canary) / (of_both + both)
        moved = False
        if of_both:
            sd = sqrt(pooled * (1 - pooled) * (1 / of_both + 1 / both))
            moved = abs(canary / both - of_canary / of_both) > max(6 * sd, 0.25 * min(pooled, 1 - pooled))
        self._shared = (canary, both) if moved else (of_canary + canary, of_both + both)
        return moved

    def _missing(self, look: Look, stable: Array, canary: Array) -> MissingData | None:
        """What the look lacks, so that it says nothing; None if it says something."""
        if not look.sampled:
            return MissingData(Lacking.TELEMETRY, look.seconds, look.end)
        if self.kind == "dark":
            return None  # nobody is sent to it
        if canary[REQUESTS] == 0:
            return MissingData(Lacking.CANARY_REQUESTS, look.seconds, look.end, float(stable[REQUESTS]))
        if self.comparing and stable[REQUESTS] == 0:
            return MissingData(Lacking.STABLE_REQUESTS, look.seconds, look.end, float(canary[REQUESTS]))
        return None

    @property
    def looks(self) -> int:
        """Looks of this stage that were compared."""
        return self._looks

    @property
    def odds(self) -> float:
        """Against the canary over the rollout: weighted over metrics."""
        return self._total(metric.odds for metric in self.metrics)

    def _total(self, metric_odds: Iterable[float]) -> float:
        if not self.metrics and not self.compared.share:
            return 1.0
        return (
            sum(metric.weight * odds for metric, odds in zip(self.metrics, metric_odds, strict=True))
            + self.compared.odds
        )

    @property
    def harmful(self) -> bool:
        """Whether the evidence is enough to roll back. What a single replica or a single bound did is asked
        only when it would matter."""
        return self.odds >= self.bar and self._total(map(_harmful_odds, self.metrics)) >= self.bar

    @property
    def withheld(self) -> bool:
        """Whether a rollback that the odds ask for is not made, because of what a single replica or a single
        bound did, or because stable's trouble may be a spell that is not over."""
        return self.comparing and self.odds >= self.bar and not self.harmful

    @property
    def stage_odds(self) -> float:
        """Against the canary from this stage's own looks: weighted over metrics; 1 where nothing is
        compared."""
        if not self.comparing or not (self.metrics or self.compared.share):
            return 1.0
        return sum(metric.weight * metric.stage_odds for metric in self.metrics) + self.compared.stage_odds

    @property
    def timed(self) -> bool:
        """Whether the canary's latency was seen in this stage."""
        return bool(self.stage_canary[TIMED] > 0)


def _harmful_odds(metric: MetricEvidence) -> float:
    """What speaks for the canary needs no second look."""
    return min(metric.cautious_odds(), metric.harmful_odds()) if metric.odds > 1.0 else metric.odds


def observe_all(looks: Sequence[tuple[Judge, Look]], detailed: bool = False) -> list[Assessment]:
    """A look further for many judges at once, each with the assessment that it would have come to alone;
    several times as fast."""
    fold_all([unit for judge, look in looks for unit in judge.gather(look)])
    return [judge.conclude(detailed) for judge, _ in looks]

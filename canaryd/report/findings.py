"""A verdict in sentences, from what a judge concluded in numbers: findings, the reason, and notes.

For whoever saves or shows a verdict. Nothing here decides, and nothing here asks a judge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite

from canaryd.domain.assessment import (
    AlarmedRate,
    Assessment,
    Details,
    DrawnUsers,
    FallenTraffic,
    Lacking,
    LatencyAssessment,
    LimitAssessment,
    MeanAssessment,
    MissingData,
    PlainHarm,
    RateAssessment,
    RateComparison,
    RecordComparison,
    ReplicaLuck,
    TrafficShare,
    UnseenLimit,
    WarmUp,
)
from canaryd.domain.formatting import lasting, odds_text, percent_text, points_text, short, time_text
from canaryd.domain.verdict import PLAIN_SHARE, Answer, MetricFinding, Verdict, largest_tolerated
from canaryd.report import alert_findings, query_findings, traffic_share

ALL_BOUNDS = "all bounds"
MEAN = "mean latency"
KNOWN = 60  # seconds of stable's record from which it is worth a word
VERSION_DOWN, REPLICA_DOWN = "version down", "replica down"
UNEVEN = 2.0  # odds that make a difference worth naming
# times the warm-up, and seconds at least, up to which the age of replicas may explain what they did
YOUNG_TIMES, YOUNG_SECONDS = 3.0, 120.0
MATCHED = (
    "matched users are compared with all others, who may differ anyway, so the stage passes by its minimum "
    "and guardrails alone"
)
SPLIT = (
    "half of the matched requests go to stable and half to the canary, by lot: these two halves are "
    "compared, and no others"
)
BEGAN_MEANWHILE = "looks are judged one by one, and harm may have begun meanwhile: added up they show less"
IN_CHANGE = "the weight is in change: requests are counted and not compared"


def verdict_from(assessment: Assessment) -> Verdict:
    """The verdict with its sentences. Where an assessment has no details, only a look that says nothing has a
    reason."""
    findings = findings_of(assessment)
    return replace(
        assessment.verdict,
        reason=reason_of(assessment, findings),
        findings=findings,
        notes=notes_of(assessment),
    )


def findings_of(assessment: Assessment) -> tuple[MetricFinding, ...]:
    """The useful ones: errors, latency and its bounds that matter, limits, queries, alerts."""
    return tuple(_findings(assessment, assessment.details)) if assessment.details is not None else ()


def _findings(assessment: Assessment, details: Details) -> Iterator[MetricFinding]:
    if details.plain_harm is not None:
        yield _down(details.plain_harm)
    if details.errors is not None:
        yield _errors(details, details.errors)
    if details.latency is not None:
        yield from _latency(details, details.latency)
    for record in details.records:
        yield _record(assessment, record)
    if details.lacks_latency and details.is_full_weight:
        says = "no latency of the canary at full weight yet"
        yield MetricFinding("latency", ALL_BOUNDS, Answer.NO_DATA, says=says)
    for limit in details.limits:
        yield _limit(assessment, limit)
    for query in details.queries:
        yield from query_findings.findings(query, assessment.is_comparing)
    if details.alerts is not None:
        yield from alert_findings.findings(details.alerts)


# ---------------------------------------------------------------- what is plain


def _down(harm: PlainHarm) -> MetricFinding:
    """A version, or a replica, that is down: a rule's finding, without odds."""
    counted = f"{harm.failures:,.0f} of {harm.requests:,.0f} requests for {harm.seconds} s"
    if not harm.is_version and harm.replica:
        whose = f"replica {harm.replica} of the new version failed {counted}"
    elif harm.is_version:
        all_of = "all" if harm.failing_replicas == harm.replicas else f"{harm.failing_replicas} of"
        whose = f"{all_of} {harm.replicas} replicas of the new version failed {counted}"
    else:
        whose = f"the new version failed {counted}"
    return MetricFinding(
        "errors",
        VERSION_DOWN if harm.is_version else REPLICA_DOWN,
        Answer.FAIL,
        stable_events=int(harm.stable_failures),
        stable_requests=int(harm.stable_requests),
        canary_events=int(harm.failures),
        canary_requests=int(harm.requests),
        says=f"{whose}; {_of_stable(harm)}",
    )


def _of_stable(harm: PlainHarm) -> str:
    """`none of stable's 3 did, nor for so long in the 60m known of it`."""
    if harm.stable_failing:
        did = (
            f"stable failed {percent_text(harm.stable_failures / harm.stable_requests)} of its requests then"
        )
        before = ", and was never like it for so long in the"
    else:
        several = f"none of stable's {harm.stable_replicas} did"
        did = several if harm.stable_replicas > 1 else "stable's one replica did not"
        before = ", nor for so long in the"
    return did + (
        f"{before} {lasting(harm.record_seconds)} known of it" if harm.record_seconds >= KNOWN else ""
    )


# ---------------------------------------------------------------- what is compared


def _errors(details: Details, errors: RateAssessment) -> MetricFinding:
    if details.warm_up is not None and not errors.rates.canary_requests and _waits(details.warm_up):
        return _rate_finding(details, "errors", "errors", errors, _waits(details.warm_up))
    more = percent_text(errors.tolerated - 1)
    if errors.tolerated_increase:
        more += f" or {points_text(errors.tolerated_increase)}"
    says = _against("errors", errors, f"{more} more tolerated")
    beyond = ""
    if errors.is_plainly_unacceptable:
        more_of_all = points_text(errors.unacceptable_increase or 0.0)
        beyond = f"a ratio of {short(errors.unacceptable)} and {more_of_all} more"
    odds = _odds(details, errors.odds, errors.bar, errors.cleared, beyond)
    return _rate_finding(details, "errors", "errors", errors, f"{says}, {odds}{_by_luck(errors)}")


def _latency(details: Details, latency: LatencyAssessment) -> Iterator[MetricFinding]:
    if not latency.is_seen:
        yield MetricFinding(
            "latency",
            ALL_BOUNDS,
            latency.answer,
            odds=latency.odds,
            bar=latency.bar,
            clear_bar=details.clear_bar,
            says="no latency of both versions in one look of this stage yet",
        )
        return
    mean = f"mean {_times(latency.mean_ratio)} times stable's, " if latency.mean_ratio is not None else ""
    odds = _odds(details, latency.odds, latency.bar, latency.cleared, _beyond_in_latency(latency))
    yield MetricFinding(
        "latency",
        ALL_BOUNDS,
        latency.answer,
        stable_requests=int(latency.stable_timed),
        canary_requests=int(latency.canary_timed),
        ratio=latency.mean_ratio,
        tolerated=latency.tolerated,
        odds=latency.odds,
        bar=latency.bar,
        cleared=latency.cleared,
        clear_bar=details.clear_bar,
        says=f"latency over {latency.joined} of {latency.bounds_in_all} bounds: {mean}{odds}",
    )
    if latency.mean is not None:
        yield _mean(details, latency, latency.mean)
    for bound in latency.bounds:
        yield _bound(details, bound)


def _beyond_in_latency(latency: LatencyAssessment) -> str:
    """What of latency lies plainly beyond what the stage must rule out; empty where nothing does."""
    if latency.mean is not None and latency.mean.is_unacceptable:
        return f"a mean of {_times(latency.mean.unacceptable)} times stable's"
    bound = next((bound for bound in latency.bounds if bound.is_plainly_unacceptable), None)
    if bound is None:
        return ""
    slower = f"slower than {bound.bound_ms:g} ms"
    if bound.rates.ratio is None:
        return f"{percent_text(PLAIN_SHARE)} of requests {slower}"
    return f"{_times(bound.unacceptable)} times stable's share {slower}"


def _mean(details: Details, latency: LatencyAssessment, mean: MeanAssessment) -> MetricFinding:
    tolerated = f"{percent_text(mean.tolerated - 1)} more tolerated"
    beyond = ""
    if mean.is_unacceptable and details.kind != "match":
        beyond = f"; nothing passes while it is beyond {_times(mean.unacceptable)} times"
    return MetricFinding(
        "latency",
        MEAN,
        mean.answer,
        stable_requests=int(latency.stable_timed),
        canary_requests=int(latency.canary_timed),
        ratio=mean.ratio,
        tolerated=mean.tolerated,
        odds=mean.odds,
        bar=mean.bar,
        says=f"mean latency {_times(mean.ratio)} times stable's ({tolerated}), odds {odds_text(mean.odds)}"
        f"{beyond}",
        is_over=bool(beyond),
    )


def _bound(details: Details, bound: RateAssessment) -> MetricFinding:
    what = f"slower than {bound.bound_ms:g} ms"
    # Where stable has next to none, a ratio says little, and the tolerance is the increase.
    has_ratio = bound.rates.ratio is not None
    border = (
        f"{_times(bound.tolerated)} times stable's"
        if has_ratio
        else f"{points_text(bound.tolerated_increase)} more"
    )
    says = f"{_against(what, bound, f'{border} tolerated')}, odds {odds_text(bound.odds)}{_by_luck(bound)}"
    return _rate_finding(details, "latency", what, bound, says)


def _rate_finding(details: Details, metric: str, what: str, rate: RateAssessment, says: str) -> MetricFinding:
    rates, ratio = rate.rates, rate.rates.ratio
    low, high = _interval(rate)
    return MetricFinding(
        metric,
        what,
        rate.answer,
        stable_events=int(rates.stable_events),
        stable_requests=int(rates.stable_requests),
        canary_events=int(rates.canary_events),
        canary_requests=int(rates.canary_requests),
        ratio=ratio,
        # an interval is shown where there is a ratio to put it round
        low=low if ratio is not None else None,
        high=high if ratio is not None else None,
        tolerated=rate.tolerated,
        unacceptable=rate.unacceptable,
        odds=rate.odds,
        bar=rate.bar,
        cleared=rate.cleared,
        clear_bar=details.clear_bar,
        says=says,
        # a bound's ratios have its increase in them
        tolerated_increase=rate.tolerated_increase if rate.bound_ms is None else None,
        unacceptable_increase=rate.unacceptable_increase,
    )


def _interval(rate: RateAssessment) -> tuple[float, float]:
    """The interval, widened to the plain estimate where that lies outside: it is of looks compared one by
    one, on a grid that is coarse below the border, and the estimate of all looks added up. A wider interval
    holds as well."""
    ratio = rate.rates.ratio
    return (rate.low, rate.high) if ratio is None else (min(rate.low, ratio), max(rate.high, ratio))


def _by_luck(rate: RateAssessment) -> str:
    """Why odds are even, or near it, where the interval leaves nothing that is tolerated."""
    rates = rate.rates
    low, border = (
        _interval(rate)[0],
        largest_tolerated(
            rate.tolerated,
            rate.tolerated_increase if rate.bound_ms is None else None,
            rates.stable_events,
            rates.stable_requests,
        ),
    )
    is_above = rates.ratio is not None and low > border
    return "; more than tolerated, but no more than luck may bring" if is_above and rate.odds < UNEVEN else ""


def _times(ratio: float) -> str:
    """A ratio that is read beside a border: `1.12`, `2.9`, `31`."""
    return short(ratio) if ratio >= 9.95 else f"{ratio:.3g}"


def _against(what: str, rate: RateAssessment, tolerated: str) -> str:
    """`errors 2.1% against 0.5% (ratio 4.2, 1.9 to 9.3; 10% more tolerated)`."""
    rates, ratio = rate.rates, rate.rates.ratio
    low, high = _interval(rate)
    upto = short(high) if isfinite(high) else "any"
    estimate = f"ratio {short(ratio)}, {short(low)} to {upto}; " if ratio is not None else ""
    return f"{what} {_canary_share(rates)} against {_stable_share(rates)} ({estimate}{tolerated})"


def _canary_share(rates: RateComparison) -> str:
    return percent_text(rates.canary_events / rates.canary_requests) if rates.canary_requests else "nothing"


def _stable_share(rates: RateComparison) -> str:
    return percent_text(rates.stable_events / rates.stable_requests) if rates.stable_requests else "nothing"


def _odds(details: Details, odds: float, bar: float, cleared: float, beyond: str) -> str:
    """What decides: harm where there is some, what is still to rule out where there is none, and where that
    lets a stage pass. beyond: which border of the stage the plain counts exceed, if any."""
    if odds >= UNEVEN or details.kind == "match":
        return f"odds {odds_text(odds)} against the canary (alone it is rolled back at {short(bar)})"
    if cleared >= details.clear_bar and beyond:
        ruled_out = f"odds of {odds_text(cleared)} against what this stage must rule out"
        return f"{ruled_out}, but nothing passes beyond {beyond}"
    if cleared >= details.clear_bar:
        return f"what this stage must rule out is ruled out at {odds_text(cleared)}"
    reached = odds_text(max(cleared, 1.0))
    return f"what this stage must rule out is at {reached} of {short(details.clear_bar)} to 1"


# ---------------------------------------------------------------- replicas that warm up


def _waits(warm_up: WarmUp) -> str:
    """What errors wait for while one version warms up as a whole; empty where none does."""
    version, replicas = "the new version", warm_up.replicas
    if warm_up.cold < warm_up.replicas:
        version, replicas = "the stable version", warm_up.stable_replicas
        if warm_up.stable_cold < replicas or not replicas:
            return ""
    whose = f"all {replicas} replicas of {version} are" if replicas > 1 else f"the replica of {version} is"
    first = lasting(warm_up.seconds)
    return (
        f"errors are not compared yet: {whose} in the first {first} (`warmup`), where only limits and what "
        "is too plain to wait for count"
    )


def _left_out(warm_up: WarmUp) -> str:
    """The note that some replicas are not compared; empty where all are, or none."""
    some = [
        f"{cold} of {replicas} replicas of {version}"
        for version, cold, replicas in (
            ("the new version", warm_up.cold, warm_up.replicas),
            ("the stable version", warm_up.stable_cold, warm_up.stable_replicas),
        )
        if 0 < cold < replicas
    ]
    if not some:
        return ""
    first = lasting(warm_up.seconds)
    are = "is" if warm_up.cold + warm_up.stable_cold == 1 else "are"
    return f"{' and '.join(some)} {are} in the first {first} (`warmup`), and not compared yet"


def _age(warm_up: WarmUp) -> str:
    """`its 3 replicas are 70 s old`, where that may explain what they did; empty otherwise."""
    if warm_up.youngest is None or warm_up.oldest is None:
        return ""
    if warm_up.oldest > max(YOUNG_TIMES * warm_up.seconds, YOUNG_SECONDS):
        return ""
    low, high = round(warm_up.youngest), round(warm_up.oldest)
    age = f"{high} s old" if low == high else f"{low} to {high} s old"
    return f"its {warm_up.replicas} replicas are {age}" if warm_up.replicas > 1 else f"its replica is {age}"


# ---------------------------------------------------------------- the record, and limits


def _record(assessment: Assessment, record: RecordComparison) -> MetricFinding:
    what = "errors" if record.bound_ms is None else f"slower than {record.bound_ms:g} ms"
    share = percent_text(record.share)
    says = f"{what} {share} at full weight, and no record to hold it against"
    if record.has_record:
        says = (
            f"{what} {share} at full weight against {percent_text(record.usual)} in the rollout's record "
            f"(up to {percent_text(record.limit)} is usual), odds {odds_text(record.odds)}"
        )
    if record.answer is Answer.ALARM and record.share <= record.limit:
        says += f"; {BEGAN_MEANWHILE}"
    return MetricFinding(
        record.metric,
        f"{what}, against the record",
        record.answer,
        canary_events=int(record.events),
        canary_requests=int(record.requests),
        odds=record.odds,
        bar=assessment.bar,
        value=record.share,
        limit=record.limit,
        says=says,
    )


def _limit(assessment: Assessment, limit: LimitAssessment) -> MetricFinding:
    what = "errors" if limit.bound_ms is None else f"slower than {limit.bound_ms:g} ms"
    allowed, share = percent_text(limit.limit), limit.share
    counted = f"({limit.events:,.0f} of {limit.requests:,.0f})"
    observed = f"{percent_text(share)} {counted}" if share is not None else "nothing seen"
    of_stable = ""
    if limit.stable_share is not None:
        of_stable = f"; stable has {percent_text(limit.stable_share)} in the same looks"
    is_late = limit.answer is Answer.FAIL and share is not None and share <= limit.limit
    began = f"; {BEGAN_MEANWHILE}" if is_late else ""
    if limit.is_shared:
        of_stable += ", so a rollback would not help"
    return MetricFinding(
        limit.metric,
        f"at most {allowed} {what}",
        limit.answer,
        canary_events=int(limit.events),
        canary_requests=int(limit.requests),
        odds=limit.odds,
        bar=assessment.bar,
        value=share,
        limit=limit.limit,
        is_over=limit.is_over,
        says=f"{what} {observed} where at most {allowed} is allowed{of_stable}, odds {odds_text(limit.odds)} "
        f"that it is broken{began}",
    )


# ---------------------------------------------------------------- notes


def notes_of(assessment: Assessment) -> tuple[str, ...]:
    """What a reader must know to read the numbers right."""
    if assessment.details is None:
        return ()
    share = traffic_share.note(assessment.traffic) if assessment.traffic is not None else ""
    return (*_notes(assessment, assessment.details), *([share] if share else []))


def _notes(assessment: Assessment, details: Details) -> Iterator[str]:
    if details.kind == "split":
        yield SPLIT
    for block in details.blocks:
        if block.looks > 1:
            lasts = f"trouble on stable lasts about {short(block.trouble_lasts)} looks at a time"
            yield f"{block.metric}: {lasts}, so looks are judged in blocks of {block.looks}"
        if block.looks_if_spell > block.looks:
            rose = "stable's rate rose just before the rollout, which may be a bad spell of its own"
            yield (
                f"{block.metric}: {rose}, so a rollback needs its odds in blocks of {block.looks_if_spell} "
                "looks as well"
            )
    if details.warm_up is not None and (left_out := _left_out(details.warm_up)):
        yield left_out
    if details.is_one_replica:
        yield _one_replica(details)
    if details.dropped_bounds_ms:
        left_out = ", ".join(f"{bound:g}" for bound in details.dropped_bounds_ms)
        known = f"not every replica's histogram has the bounds {left_out} ms"
        yield f"{known}: latency was begun anew without them"
    if details.is_withheld:
        yield (
            "the odds are over the bar, yet they rest on one replica, on one histogram bound that the mean "
            "does not bear out, or on looks so few that a bad spell would do as much: that is not held "
            "against the version, and someone should look at it"
        )
    yield from (unseen_limit(limit) for limit in details.unseen_limits)
    yield from (_replica_luck(luck) for luck in details.replica_luck)
    if details.drawn_users is not None:
        yield _drawn_users(details.drawn_users)
    yield from query_findings.notes(details.queries, assessment.is_comparing)
    if details.alerts is not None:
        yield from alert_findings.notes(details.alerts)


def _one_replica(details: Details) -> str:
    counter = {"source": "callers", "waypoint": "waypoints"}.get(details.reporter)
    counted = f"counted by the {counter}, replicas are one" if counter else "latency of one canary replica"
    less = "" if details.kind == "split" else ", and less has to be ruled out"
    return f"{counted}: a slow node cannot be told from a slow version: luck may bring more{less}"


def unseen_limit(limit: UnseenLimit) -> str:
    """The note that a latency limit is not held."""
    return (
        f"{limit.quantile} of {limit.limit_ms:g} ms lies beyond the histogram's last bound "
        f"({limit.last_bound_ms:g} ms) and is not held"
    )


def _replica_luck(luck: ReplicaLuck) -> str:
    """How far stable's replicas differ, and what the draw of replicas may so bring."""
    what = "their error rates" if luck.bound_ms is None else f"their shares slower than {luck.bound_ms:g} ms"
    differ = percent_text(luck.raw_sd) if luck.raw_sd >= 0.005 else "no more than chance"
    few = (
        f", of which so few say little: {luck.assumed_sd:.0%} weighs in as {luck.assumed_replicas} more would"
        if luck.replicas_seen < 2 * luck.assumed_replicas
        else ""
    )
    known = f"{luck.replicas_seen} replicas of stable differ by {differ} in {what}{few}"
    if luck.replicas_seen == 1:
        known = (
            f"how far replicas differ in {what} is not known from one of stable, {luck.assumed_sd:.0%} is "
            "assumed"
        )
    return (
        f"{luck.metric}: {known}; a ratio of up to {luck.ratio:.2g} may be the luck of the draw of "
        f"{luck.stable_replicas} and {luck.canary_replicas}, and is not held against the canary"
    )


def _drawn_users(drawn: DrawnUsers) -> str:
    """The note that users were drawn, and what their luck may bring."""
    drawn_text = (
        f"users were drawn, and not requests: of {drawn.users:,.0f} by the policy, {drawn.canary_users:,.0f} "
        "are the canary's"
    )
    if drawn.ratio is None:
        return f"{drawn_text}; what may be the luck of their draw is not held against it"
    ratio = f"a ratio of errors of up to {drawn.ratio:.2g}"
    return f"{drawn_text}; {ratio} may be the luck of their draw, and is not held against it"


# ---------------------------------------------------------------- the reason


def reason_of(assessment: Assessment, findings: Sequence[MetricFinding]) -> str:
    """The verdict in one sentence; empty where it would take details that are not there."""
    if assessment.answer is Answer.NO_DATA:
        return _no_data(assessment.missing, assessment.traffic)
    if assessment.answer is Answer.UNDECIDED and not assessment.is_compared:
        return IN_CHANGE
    details, traffic = assessment.details, assessment.traffic
    if details is None:
        return ""
    reason = _reason(assessment, details, findings)
    if assessment.is_ruled_out and traffic is not None and traffic.is_in_doubt:
        return f"{reason}; {traffic_share.doubt(traffic)}"
    if assessment.fallen_traffic is not None:
        return f"{reason}; {_fallen(assessment.fallen_traffic)}"
    return reason


def _fallen(fallen: FallenTraffic) -> str:
    """Traffic that fell, what a stage sees of it, and what it would have to."""
    return (
        f"traffic fell from {short(fallen.usual)} to {short(fallen.lately)} requests/s in the last "
        f"{lasting(fallen.seconds)}: at that rate a stage of {lasting(fallen.deadline)} sees "
        f"{fallen.canary_requests:,.0f} requests of the canary, and would need about {fallen.wanted:,.0f} "
        "for an even chance of seeing what it must rule out"
    )


def _no_data(missing: MissingData | None, traffic: TrafficShare | None) -> str:
    if missing is None:
        return traffic_share.reason(traffic) if traffic is not None else ""
    lasting = f"in the {missing.seconds} s to {time_text(missing.end)} UTC"
    others = f"{missing.others:,.0f}"
    of_stable = f"while stable served {others}" if missing.others else "nor of stable"
    return {
        Lacking.TELEMETRY: f"no telemetry at all {lasting}",
        Lacking.CANARY_REQUESTS: f"no request of the canary {lasting}, {of_stable}",
        Lacking.STABLE_REQUESTS: f"no request of stable {lasting} to compare with, while the canary served "
        f"{others}",
        Lacking.MATCHED_REQUESTS: "no request of a matched user was counted yet, of neither version",
    }[missing.what]


def _reason(assessment: Assessment, details: Details, findings: Sequence[MetricFinding]) -> str:
    if details.kind == "dark" and assessment.answer is not Answer.FAIL:
        return _dark(assessment)
    deciding = [finding for finding in findings if not finding.dry_run]
    reason = {
        Answer.FAIL: _harm,
        Answer.ALARM: _alarm,
        Answer.PASS: _passed,
    }.get(assessment.answer, _undecided)(assessment, details, deciding)
    is_counted = not alert_findings.begun(deciding)  # an alert is not the replicas' counts
    if assessment.answer is Answer.FAIL and details.warm_up is not None and is_counted:
        reason = "; ".join(filter(None, (reason, _age(details.warm_up))))
    return f"{reason}; {MATCHED}" if details.kind == "match" else reason


def _dark(assessment: Assessment) -> str:
    """How far a stage is that no user is sent to."""
    previews = (
        f"{assessment.canary_requests:,.0f} requests of previews"
        if assessment.canary_requests
        else "no request"
    )
    return f"dark, with {previews} in {assessment.looks} looks: it passes by its minimum"


def _total(assessment: Assessment) -> str:
    return f"odds {odds_text(assessment.odds)}, rolled back at {short(assessment.bar)}"


def _harm(assessment: Assessment, details: Details, findings: Sequence[MetricFinding]) -> str:
    down = plainly_down(findings)
    if down is not None:
        return f"{down.says}: too plain to wait for odds, rolled back"
    for alert in alert_findings.begun(findings):
        if alert.answer is Answer.FAIL:
            return f"{alert.says}: rolled back"
    for finding in findings:
        if finding.answer is Answer.FAIL and finding.limit is not None:
            return f"{finding.says}, rolled back"
    decisive = loudest(findings)
    if decisive is None:
        return _total(assessment)
    return f"{_without_odds(decisive)}, {_total(assessment)}{_why_less_plain(assessment, decisive)}"


def _why_less_plain(assessment: Assessment, decisive: MetricFinding) -> str:
    """Why a version is rolled back whose ratio in this stage, or its interval, is not beyond what is
    tolerated; empty where it is."""
    if decisive.is_above_tolerated or decisive.tolerated is None:
        return ""
    if assessment.stage_odds < assessment.bar:
        return f"; by this stage alone {odds_text(assessment.stage_odds)}, the rest is of earlier looks"
    if decisive.low is None and decisive.canary_events:
        return ""  # stable had no event, so that there is no ratio that could be less plain
    return f"; {BEGAN_MEANWHILE}"


def _alarm(assessment: Assessment, details: Details, findings: Sequence[MetricFinding]) -> str:
    alarms = [finding for finding in findings if finding.answer is Answer.ALARM]
    if not alarms:
        return f"odds {odds_text(assessment.odds)} against the rollout's record"
    then = "rolled back, since no stage before it has users of both versions"
    if details.can_step_back:
        then = "to be judged side by side again"
    return f"{max(alarms, key=lambda finding: finding.odds).says}: {then}"


def _passed(assessment: Assessment, details: Details, findings: Sequence[MetricFinding]) -> str:
    seen = f"in {assessment.looks} looks and {assessment.canary_requests:,.0f} of its requests"
    speaking = dict.fromkeys(finding.what for finding in findings if _speaks_against(finding))
    looked = f"nothing against the canary {seen}"
    if speaking:
        named = ", ".join("mean latency" if what == ALL_BOUNDS else what for what in speaking)
        enough = "enough for an alarm" if details.is_full_weight else "that must be ruled out"
        looked = f"nothing {enough} {seen}, but not nothing: see {named}"
    whole = (finding.says for finding in findings if not finding.what.startswith("slower"))
    return "; ".join((looked, *whole))


def _undecided(assessment: Assessment, details: Details, findings: Sequence[MetricFinding]) -> str:
    still_open = [
        finding.says
        for finding in findings
        if finding.answer is not Answer.PASS and not finding.what.startswith("slower")
    ]
    if assessment.contested:
        return "; ".join([*map(_alarmed_before, details.alarmed), *_speaking(findings), *still_open][:2])
    if still_open:
        return "; ".join(still_open[:2])
    if assessment.odds >= UNEVEN or assessment.stage_odds >= UNEVEN:
        speaking = loudest(findings)
        which = f"{_without_odds(speaking)}, " if speaking is not None else ""
        return f"{which}{_total(assessment)}: too much to pass"
    return f"no evidence of harm so far ({_total(assessment)})"


def _speaks_against(finding: MetricFinding) -> bool:
    """Whether a finding says something against the canary, even if not enough: more than is tolerated,
    usual, or allowed, or odds that are not even."""
    is_over = finding.value is not None and finding.limit is not None and finding.value > finding.limit
    is_rate = finding.metric in ("errors", "latency")
    return finding.is_above_tolerated or (is_rate and is_over) or (finding.odds >= UNEVEN)


def _alarmed_before(rate: AlarmedRate) -> str:
    what = "errors were" if rate.bound_ms is None else f"slower than {rate.bound_ms:g} ms were"
    return (
        f"at full weight {what} {percent_text(rate.share)} against {percent_text(rate.usual)} on record: "
        f"look at that; it goes there again once {short(rate.unacceptable)} times stable's is ruled out side "
        "by side"
    )


def _speaking(findings: Sequence[MetricFinding]) -> list[str]:
    """The bound that speaks most for harm."""
    bounds = [finding for finding in findings if finding.what.startswith("slower") and finding.odds >= UNEVEN]
    return [max(bounds, key=lambda finding: finding.odds).says] if bounds else []


def plainly_down(findings: Sequence[MetricFinding]) -> MetricFinding | None:
    """The finding of a version or a replica that is down; None where nothing is as plain as that."""
    return next((finding for finding in findings if finding.what in (VERSION_DOWN, REPLICA_DOWN)), None)


def loudest(findings: Sequence[MetricFinding]) -> MetricFinding | None:
    """What decides on comparisons: the metric with most odds for its weight, and of latency the bound that
    speaks most; None where nothing is compared. The bounds' odds are this stage's alone: where an earlier
    stage's evidence decided, all bounds together say it."""
    metrics = [
        finding for finding in findings if finding.stable_requests and finding.what in ("errors", ALL_BOUNDS)
    ] + query_findings.compared(findings)
    decisive = max(metrics, key=lambda finding: finding.odds / finding.bar, default=None)
    if decisive is None or decisive.what != ALL_BOUNDS:
        return decisive
    bounds = [
        finding
        for finding in findings
        if finding.metric == decisive.metric and finding.what.startswith("slower") and finding.odds >= UNEVEN
    ]
    return max(bounds, key=lambda finding: finding.odds / finding.bar, default=decisive)


def _without_odds(finding: MetricFinding) -> str:
    return finding.says.rpartition(", odds ")[0] or finding.says

"""Reads the sentences of a verdict as a stranger would, and holds each against the numbers beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from canaryd.domain.formatting import odds_text, percent_text, short
from canaryd.domain.verdict import Answer, MetricFinding, Verdict
from canaryd.report.findings import ALL_BOUNDS, MEAN
from canaryd.report.serialization import plain

SHARES = re.compile(r"(<?[\d.]+%|nothing) against (<?[\d.]+%|nothing) \(")
RATIO = re.compile(r"ratio (?P<ratio>[\d.,]+), (?P<low>[\d.,]+) to (?P<high>[\d.,]+|any)")
SAID_MEAN = re.compile(r"mean (?:latency )?(?P<ratio>[\d.,]+) times stable's")
LIMITED = re.compile(r"(?P<share><?[\d.]+%) \((?P<events>[\d,]+) of (?P<requests>[\d,]+)\) where at most")
RULED_OUT = re.compile(r"is ruled out at (?P<odds>.*? to 1)")
EXPLAINED = ("luck", "earlier looks", "added up", "nothing passes", "see ")
AS_IT_IS = 1.02  # what two digits leave open


def contradictions(verdict: Verdict, next_weight: int) -> list[str]:
    """What a verdict says against its own numbers, each with the sentence. next_weight: per cent, to which
    its stage leads."""
    findings = [finding for finding in verdict.findings if not finding.dry_run]
    found = [f"{what}: {finding.says}" for finding in findings for what in _of_finding(finding, next_weight)]
    found += [f"{what}: {verdict.reason}" for what in _of_answer(verdict, findings, next_weight)]
    data = plain(verdict)["findings"]
    return found + [
        f"the JSON's {key} is not the finding's: {finding.says}"
        for finding, written in zip(verdict.findings, data, strict=True)
        for key in ("ratio", "low", "odds", "canaryEvents", "canaryRequests", "stableEvents", "says")
        if written[key] != getattr(finding, re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), key))
    ]


def _of_finding(finding: MetricFinding, next_weight: int) -> Iterator[str]:
    says = finding.says
    if shares := SHARES.search(says):
        canary = _share(finding.canary_events, finding.canary_requests)
        stable = _share(finding.stable_events, finding.stable_requests)
        if shares.groups() != (canary, stable):
            yield f"the shares are {canary} and {stable}"
        counted = _ratio(finding)
        if (counted is None) != (RATIO.search(says) is None):
            yield "a ratio is said that the counts do not have, or not said"
    if said := RATIO.search(says):
        counted = _ratio(finding)
        if counted is None or said["ratio"] != short(counted) or finding.ratio is None:
            yield f"the counts' ratio is {counted}"
        elif not (finding.low or 0.0) <= counted <= (finding.high or 0.0):
            yield f"the interval does not have the ratio {counted}"
        if said["low"] != short(finding.low or 0.0):
            yield f"the JSON's interval begins at {finding.low}"
    said = SAID_MEAN.search(says)
    if said and (finding.ratio is None or not _is_near(said["ratio"], finding.ratio)):
        yield f"the JSON's ratio is {finding.ratio}"
    limited = (
        percent_text(finding.value or 0.0),
        f"{finding.canary_events:,}",
        f"{finding.canary_requests:,}",
    )
    if (said := LIMITED.search(says)) and said.groups() != limited:
        yield f"the JSON has {limited}"
    if ruled_out := RULED_OUT.search(says):
        if finding.cleared < finding.clear_bar or ruled_out["odds"] != odds_text(finding.cleared):
            yield f"the odds for that are {finding.cleared}"
        if _is_beyond(finding, next_weight):
            yield "it is ruled out, and the plain estimate is beyond it"
    is_explained = any(word in says for word in EXPLAINED)
    if finding.odds < 2.0 and finding.low is not None and _is_above_tolerated(finding) and not is_explained:
        yield "the whole interval is above what is tolerated, and the odds are even"
    is_grave = finding.answer in (Answer.FAIL, Answer.ALARM) and finding.metric in ("errors", "latency")
    if is_grave and finding.value is not None and not _is_over(finding) and not is_explained:
        yield "a limit is broken that is kept"
    if finding.answer is Answer.PASS and _is_beyond(finding, next_weight):
        yield "it passes, and the plain estimate is beyond what must be ruled out"


def _of_answer(verdict: Verdict, findings: list[MetricFinding], next_weight: int) -> Iterator[str]:
    reason, is_over = verdict.reason, [finding for finding in findings if _is_over(finding)]
    if verdict.answer is Answer.PASS:
        if any(finding.answer in (Answer.FAIL, Answer.ALARM) for finding in findings):
            yield "it passes, and a part of it does not"
        if any(_is_beyond(finding, next_weight) for finding in findings):
            yield "it passes beyond what must be ruled out"
        against = [
            finding
            for finding in findings
            if _is_above_tolerated(finding) or finding.odds >= 2.0 or finding in is_over
        ]
        if "nothing against" in reason and against:
            yield f"something is against it ({against[0].says})"
        if "rolled back" in reason.replace("(alone it is rolled back at", ""):
            yield "it passes, and is rolled back"
    else:
        if "nothing against" in reason:
            yield f"nothing is against it, and it is {verdict.answer.value}"
        if verdict.odds >= 2.0 and "no evidence of harm" in reason:
            yield f"no evidence of harm at odds of {verdict.odds:.1f}"
    if verdict.answer is Answer.FAIL:
        if "rolled back" not in reason:
            yield "it is rolled back, and does not say so"
        said = RATIO.search(reason)
        decisive = next((finding for finding in findings if said and said[0] in finding.says), None)
        is_plain = decisive is None or _is_above_tolerated(decisive)
        if not is_plain and not any(word in reason for word in EXPLAINED):
            yield "it is rolled back, and no worse than tolerated"
        if f"rolled back at {short(verdict.bar)}" in reason and verdict.odds < verdict.bar:
            yield f"it is rolled back at odds of {verdict.odds:.1f}"
    if (
        verdict.weight == 100
        and verdict.answer is Answer.PASS
        and any(finding.unacceptable is not None for finding in findings)
    ):
        yield "it has all traffic, and is compared"


def _share(events: int, requests: int) -> str:
    return percent_text(events / requests) if requests else "nothing"


def _ratio(finding: MetricFinding) -> float | None:
    if not (finding.stable_events and finding.stable_requests and finding.canary_requests):
        return None
    return finding.canary_events / finding.canary_requests / (finding.stable_events / finding.stable_requests)


def _is_near(said: str, number: float) -> bool:
    width = AS_IT_IS if number < 9.95 else 1.05  # whole numbers from there on
    return number / width <= float(said.replace(",", "")) <= number * width


def _is_above_tolerated(finding: MetricFinding) -> bool:
    least = finding.ratio if finding.what in (ALL_BOUNDS, MEAN) else finding.low
    if least is None or finding.tolerated is None:
        return False
    tolerated = finding.tolerated
    if finding.tolerated_increase and finding.stable_events:
        stable = finding.stable_events / finding.stable_requests
        tolerated = max(tolerated, (stable + finding.tolerated_increase) / stable)
    return least > tolerated


def _is_beyond(finding: MetricFinding, next_weight: int) -> bool:
    """Of a mean: what hurts as many users at the next weight as 25% more at all of them."""
    if finding.what in (ALL_BOUNDS, MEAN):
        return finding.ratio is not None and finding.ratio > 1 + 0.25 * 100 / next_weight
    return finding.is_plainly_unacceptable


def _is_over(finding: MetricFinding) -> bool:
    is_rate = finding.metric in ("errors", "latency")
    return is_rate and finding.value is not None and finding.value > (finding.limit or 0.0)

"""One verdict of several: harm of any is harm, all have to pass, and the numbers are of the one that is worst
off."""

from __future__ import annotations

from itertools import product

import pytest

from canaryd.domain.verdict import Answer, MetricFinding
from canaryd.judge.combined_verdict import verdict_of
from tests.builders import a_verdict

ORDER = (Answer.FAIL, Answer.ALARM, Answer.NO_DATA, Answer.UNDECIDED, Answer.PASS)


@pytest.mark.parametrize(("answer", "other"), list(product(ORDER, ORDER)))
def test_the_gravest_answer_is_that_of_all(answer: Answer, other: Answer) -> None:
    found = verdict_of({"front-end": a_verdict(answer), "carts": a_verdict(other)})
    assert found.answer is min(answer, other, key=ORDER.index)


def test_the_reason_is_that_of_the_services_which_give_the_answer() -> None:
    each = {
        "front-end": a_verdict(reason="well"),
        "carts": a_verdict(Answer.FAIL, reason="errors 5%"),
        "stock": a_verdict(reason="well"),
    }
    assert verdict_of(each).reason == "carts: errors 5%"
    assert (
        verdict_of({**each, "carts": a_verdict(reason="too few")}).reason
        == "front-end: well; carts: too few; stock: well"
    )


def test_what_is_asked_of_the_numbers_holds_for_every_service() -> None:
    found = verdict_of(
        {
            "front-end": a_verdict(
                odds=50.0, stage_odds=2.0, canary_requests=1000, looks=9, notes=("a floor",)
            ),
            "carts": a_verdict(
                odds=3.0,
                stage_odds=4.0,
                canary_requests=20,
                looks=8,
                few_blocks=True,
                off_weight=True,
                traffic_fell=True,
            ),
        }
    )
    assert (found.odds, found.stage_odds, found.canary_requests, found.looks) == (50.0, 4.0, 20, 8)
    assert (found.few_blocks, found.off_weight, found.traffic_fell) == (True, True, True)
    assert found.notes == ("front-end: a floor",)


def test_every_finding_says_whose_it_is() -> None:
    errors = MetricFinding("errors", "errors", Answer.UNDECIDED)
    found = verdict_of({name: a_verdict(findings=(errors,)) for name in ("front-end", "carts")})
    assert [finding.named for finding in found.findings] == ["front-end, errors", "carts, errors"]
    assert errors.named == "errors"

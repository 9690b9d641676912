"""Users who are not alike: judged by the policies made for them, counted by what is asked of each row, and
said in three tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import users
from bench.results import Results
from bench.rollouts import Outcome
from bench.running import Runner, run_some, seeded
from bench.unlike_users import Crowd, Mixed
from bench.worlds import BAD_USERS, HEALTHY_USERS, NOT_ALLOWED, UNACCEPTABLE_USERS, Kind, Users
from canaryd.judge.judge import Judge
from canaryd.judge.matched_users import SplitStageJudge

GOOD, BACK, KEPT = (
    Outcome("succeeded", 60, 600, full=450),
    Outcome("rolled back", 9, 90, fault=0),
    Outcome("watched", 90, 900),
)
STAY, MATCHED = "300 users who stay", "matched users who always fare worse"
TWICE = "errors 0.5% to 1%, 300 users who stay"


def begun(name: str) -> tuple[Judge | SplitStageJudge, Users]:
    case = users.CASES[name]
    judge, _ = next(users.run(case, users.service(case, seeded(case.name, 0))))
    return judge, case


def test_each_row_has_a_name_of_its_own() -> None:
    assert len(users.CASES) == len(HEALTHY_USERS) + len(UNACCEPTABLE_USERS) + len(BAD_USERS)


def test_users_who_stay_are_judged_as_such_unless_the_policy_does_not_say_so() -> None:
    judge, case = begun(STAY)
    assert isinstance(users.service(case, seeded(case.name, 0)), Crowd)
    assert isinstance(judge, Judge)
    assert judge.users is not None
    assert (judge.users.stable, judge.users.canary) == (270, 30)
    [unknown] = [name for name in users.CASES if NOT_ALLOWED in name and name.startswith("2%")]
    plain, _ = begun(unknown)
    assert isinstance(plain, Judge)
    assert plain.users is None


def test_matched_users_are_split_and_judged_apart_from_all_others() -> None:
    judge, case = begun(MATCHED)
    assert isinstance(users.service(case, seeded(case.name, 0)), Mixed)
    assert isinstance(judge, SplitStageJudge)
    [split, *ladder] = users.policy_for(case).stages
    assert (split.kind, [stage.weight for stage in ladder]) == ("split", [10, 25, 50, 100])
    of_bad = users.policy_for(replace(case, kind=Kind.BAD)).stages[0]
    assert of_bad.minimum == of_bad.deadline == 86_400, "kept there"


def test_what_is_unacceptable_is_sent_to_full_weight_by_the_stage_it_has_to_pass() -> None:
    of_matched, of_staying = (
        users.policy_for(case) for case in (UNACCEPTABLE_USERS[-1], UNACCEPTABLE_USERS[0])
    )
    assert [(stage.kind, stage.weight) for stage in of_matched.stages] == [("split", 0), ("weight", 100)]
    assert [stage.weight for stage in of_staying.stages] == [50, 100]


def test_a_split_stage_passes_by_its_evidence_and_the_ladder_follows() -> None:
    """Eleven times the errors are ruled out in the stage's minimum of two minutes and a little, then come
    three others."""
    [outcome, again] = run_some("users", MATCHED, [0, 0])
    assert outcome == again
    assert outcome.end == "succeeded"
    assert outcome.full is not None
    assert 4 * 120 < outcome.full < 900


def test_of_healthy_versions_rollbacks_are_counted_and_of_unacceptable_ones_early_passes() -> None:
    """10 of 100 are 4.9% to 17.6% (Clopper and Pearson's table)."""
    outcomes = [*[BACK] * 10, *[GOOD] * 60, *[KEPT] * 30]
    entry = users.summary(users.CASES[STAY], outcomes)
    assert (entry["events"], entry["full"], entry["undecided"], entry["at_full"]) == (10, 7.5, 0.3, 0.6)
    assert (entry["low"], entry["high"]) == pytest.approx((0.049, 0.176), abs=5e-4)
    late, back_from_full = replace(GOOD, full=900), replace(BACK, full=120)
    entry = users.summary(users.CASES[TWICE], [*[GOOD] * 9, back_from_full, *[late] * 20, *[BACK] * 70])
    assert (entry["events"], entry["rolled_back"]) == (10, 0.71)
    caught = users.summary(users.CASES["errors 5% to 15%, matched users"], [*[BACK] * 3, KEPT])
    assert (caught["events"], caught["after"]) == (3, 1.5)


def test_three_tables_say_what_was_promised_and_mark_what_was_missed() -> None:
    bad, unknown = (
        "errors 5% to 15%, matched users",
        next(name for name in users.CASES if NOT_ALLOWED in name),
    )
    some_back, some_early = (
        [*[GOOD] * 90, *[BACK] * 10],
        [*[GOOD] * 3, *[replace(KEPT, full=900)] * 20, *[KEPT] * 77],
    )
    outcomes = {STAY: some_back, unknown: some_back, TWICE: some_early, bad: [BACK] * 100}
    entries = {
        name: {**users.summary(users.CASES[name], outcome), "runs": len(outcome)}
        for name, outcome in outcomes.items()
    }
    assert {name: users.reached(name, entry) for name, entry in entries.items()} == {
        STAY: False,
        unknown: True,
        TWICE: True,
        bad: True,
    }
    healthy, unacceptable, caught = users.tables(entries)
    assert healthy.rows == [
        (STAY, "100", "10 (4.9% to 17.6%) (missed)", "7.5 min", "7.5 min", "0.0%"),
        (unknown, "100", "10 (4.9% to 17.6%)", "7.5 min", "7.5 min", "0.0%"),
    ]
    assert unacceptable.rows == [(TWICE, "100", "3 (0.6% to 8.5%)", "0.0%", "20.0%")]
    assert caught.rows == [(bad, "100", "100 (96.4% to 100.0%)", "1.5 min", "0.0%", "0.0%")]
    for table in (healthy, unacceptable, caught):
        assert {len(row) for row in table.rows} == {len(table.heads)}


def test_each_row_is_of_as_many_rollouts_as_it_says_or_fewer_when_asked(tmp_path: Path) -> None:
    name = "errors 5% to 15%, matched users"
    [(_, entry)] = Runner(Results(tmp_path / "measured.json"), 1, name).measure("users", 3)
    assert entry["runs"] == 3
    runner = Runner(Results(tmp_path / "measured.json"), 1, name)
    runner._outcomes = lambda pool, part, name, runs: [BACK] * runs  # type: ignore[method-assign]
    [(_, entry)] = runner.measure("users", 10_000)
    assert entry["runs"] == users.CASES[name].runs < 10_000

"""Where users are drawn, the luck of their draw is allowed for: by simulation, by hand, and not where
requests are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as reference

from bench.early import HALF
from bench.rollouts import DEADLINE, a_policy, roll_out, rolling
from bench.running import run_some
from bench.unlike_users import Crowd, People
from canaryd.domain.policy.policy import Policy
from canaryd.domain.rollout import Span
from canaryd.judge.comparisons import CLEAR, HARM
from canaryd.judge.judge import Judge, observe_all
from canaryd.judge.sample_ratio import SampleRatio
from canaryd.judge.user_clusters import Drawn, drawn, shown_by_none
from canaryd.simulation.simulated_service import Scenario, services
from canaryd.stats.between_replicas import RARE, luck
from canaryd.stats.cluster_randomization import ALIKE, BUSY, luck_below, user_luck
from tests.judge.looks import verdict_after

RUNS = 60
FEW = People(300, unlucky=0.5, often=0.1)  # half of the failures are of users who fail a tenth of the time


def by_user(users: int, policy: Policy | None = None) -> Policy:
    data = (policy or a_policy()).dump()
    data["route"]["affinity"] = {"users": users}
    return Policy.load(data)


def taken_back(policy: Policy, world: Scenario, people: People, runs: int = RUNS) -> int:
    crowds = [
        Crowd(world, people, np.random.default_rng(one)) for one in np.random.SeedSequence(7).spawn(runs)
    ]
    return sum(
        outcome.rolled_back
        for outcome in roll_out(rolling(crowd, policy=policy, longest=90) for crowd in crowds)
    )


def test_a_healthy_version_is_not_rolled_back_for_its_users_bad_luck_which_it_is_where_that_is_not_allowed_for() -> (  # noqa: E501
    None
):
    world = Scenario(errors=0.02)
    assert taken_back(a_policy(), world, FEW) >= 4
    assert taken_back(by_user(FEW.count), world, FEW) <= 1


def test_harm_is_still_found_where_there_are_users_enough() -> None:
    assert taken_back(by_user(10_000), Scenario(canary_errors=5.0), People(10_000), 8) >= 7
    assert taken_back(by_user(5_000), Scenario(canary_latency=2.0), People(5_000), 8) >= 7


def test_harm_that_users_luck_hides_does_not_pass_early_which_it_does_where_that_is_not_allowed_for() -> None:
    """Versions with twice the errors, whose failing users are often stable's."""
    plain = a_policy(ladder=HALF)
    crowds = [
        [
            Crowd(Scenario(canary_errors=2.0), FEW, np.random.default_rng(one))
            for one in np.random.SeedSequence(11).spawn(40)
        ]
        for _ in range(2)
    ]
    early = []
    for policy, several in zip((plain, by_user(FEW.count, plain)), crowds, strict=True):
        outcomes = roll_out(rolling(crowd, policy=policy, longest=DEADLINE // 10) for crowd in several)
        early.append(sum(outcome.full is not None and outcome.full < DEADLINE for outcome in outcomes))
    assert early[0] >= 5
    assert early[1] <= 2


def test_what_luck_hides_is_that_of_a_draw_of_users_who_all_differ() -> None:
    """Lognormal rates of both versions, drawn by the generator, the canary's three times stable's; with a
    part added that has no luck."""
    rng, rate, stable, canary = np.random.default_rng(4), np.array([0.005]), 500.0, 300.0
    for added in (0.0, 0.005):
        theta, bad = CLEAR.theta[: CLEAR.border + 1], 3.0 * (rate[0] + added)
        [chances] = np.exp(
            luck_below(theta, rate, np.array([3.0]), np.array([added]), stable, canary).astype(float)
        )
        sds = [
            np.sqrt(np.log1p(BUSY * ALIKE * (1 - one) / one / users))
            for one, users in ((rate[0], stable), (bad, canary))
        ]
        of_stable, of_canary = (rng.lognormal(-(sd**2) / 2, sd, 100_000) for sd in sds)
        seen = np.log(bad * of_canary / (rate[0] * of_stable + added) / 3.0)
        for place in range(CLEAR.border - 4, CLEAR.border + 1):
            edge = (theta[place - 1] + theta[place]) / 2
            assert chances[:place].sum() == pytest.approx((seen < edge).mean(), abs=0.03)
        assert chances.sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("rate", [1e-6, 1e-3, 0.5, 0.999])
@pytest.mark.parametrize("users", [10, 10_000_000])
def test_what_luck_hides_are_chances_at_any_rate_and_number(rate: float, users: int) -> None:
    known = Drawn(0.9 * users, 0.1 * users, 1).hides(
        np.array([rate, rate]), np.array([2.0, 1.0]), np.array([0.0, 0.005])
    )
    assert np.exp(known.astype(float)).sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-5)


def test_a_canary_without_errors_is_cleared_more_slowly_the_fewer_its_users() -> None:
    def shown(users: float) -> float:
        return shown_by_none(
            10.0, Drawn(users, users, 1).hides(np.array([0.005]), np.array([1.0]), np.array([0.005]))[0]
        )

    assert shown_by_none(10.0, None) == 10.0
    assert shown(50) < 6.0 < shown(1_000) < shown(10_000_000) == pytest.approx(10.0, abs=0.01)


def test_judges_of_users_and_of_requests_are_heard_together_as_alone() -> None:
    policies, several = (by_user(500), a_policy()), list(services(Scenario(), 2, seed=5))
    pasts = [service.history(60) for service in several]
    together, alone = (
        [Judge(policy, past) for policy, past in zip(policies, pasts, strict=True)] for _ in range(2)
    )
    for judge in (*together, *alone):
        judge.open(Span(0, 10, several[0].now))
    for _ in range(8):
        looks = [service.look(10) for service in several]
        observe_all(list(zip(together, looks, strict=True)))
        for judge, look in zip(alone, looks, strict=True):
            verdict_after(judge, look)
        assert [[metric.cleared for metric in judge.metrics] for judge in together] == [
            [metric.cleared for metric in judge.metrics] for judge in alone
        ]


def test_the_luck_of_users_is_that_of_a_draw_of_them() -> None:
    """The two extremes that are assumed, drawn by the generator: mean, variance and tails."""
    rng, rate, canary = np.random.default_rng(3), 0.02, 400.0
    known = user_luck(np.array([rate]), 3600.0, canary)
    assert known.chances[0].sum() == pytest.approx(1.0)
    assert known.numbers[0] @ known.chances[0] == pytest.approx(ALIKE * rate * canary)
    drawn_ratios = (
        1
        - ALIKE
        + np.array(
            [
                rng.lognormal(-0.5, 1.0, number).sum() / (rate * canary)
                for number in rng.poisson(ALIKE * rate * canary, 20_000)
            ]
        )
    )
    for ratio in (0.9, 1.0, 1.2, 1.5, 2.0):
        [[chance]] = known.beyond_by_few(np.log([[ratio]]))
        assert chance == pytest.approx((drawn_ratios > ratio).mean(), abs=0.006)
    of_one = ALIKE * BUSY * (1 - rate) / rate
    assert known.variance[0] == pytest.approx(np.log1p(of_one / 3600) + np.log1p(of_one / canary))


@pytest.mark.parametrize("rate", [1e-6, 1e-3, 0.02, 0.5, 0.999])
@pytest.mark.parametrize("users", [10, 300, 1_000_000])
def test_chances_are_chances_at_any_rate_and_number(rate: float, users: int) -> None:
    theta = HARM.theta[HARM.border :]
    known = luck(
        theta,
        np.array([-0.1]),
        np.array([0.07]),
        3,
        3,
        3,
        user_luck(np.array([rate]), 0.9 * users, 0.1 * users),
    )
    chances = np.exp(known.log_chances.astype(float))
    assert chances.sum() == pytest.approx(1.0, abs=1e-5)
    assert known.hardly_more[0] >= 1.0


def test_few_users_leave_more_to_luck_and_very_many_none_beyond_the_replicas() -> None:
    theta, rate = HARM.theta[HARM.border :], np.array([0.005])
    above, far = {}, {}
    for users in (0, 300, 5_000, 10_000_000):
        of_users = user_luck(rate, 0.9 * users, 0.1 * users) if users else None
        known = luck(theta, np.array([-0.1]), np.array([0.07]), 3, 3, 3, of_users)
        above[users], far[users] = (
            1 - np.exp(float(known.log_chances[0, 0])),
            np.exp(known.log_chances[0, 6:].astype(float)).sum(),
        )
    assert far[300] > 3 * far[5_000] > 10 * far[10_000_000]
    assert above[10_000_000] == pytest.approx(above[0], rel=0.02)
    by_t = reference.t.sf((0.05 + 0.1) / (0.07 * np.sqrt(2 / 3)), 6)
    assert above[0] == pytest.approx(by_t, rel=1e-4)


def test_what_is_hardly_exceeded_in_a_rollout_is_exceeded_more_rarely_in_each_of_its_stages() -> None:
    """Users are drawn anew for each stage, so a bet that allows RARE in each of three is lost in nearly three
    times RARE of rollouts."""
    theta, rate = HARM.theta[HARM.border :], np.array([0.005])
    of_one, of_three = (
        luck(theta, np.array([-0.1]), np.array([1e-6]), 3, 3, 3, user_luck(rate, 270.0, 30.0, stages))
        for stages in (1, 3)
    )
    known = user_luck(rate, 270.0, 30.0)
    for found, stages in ((of_one, 1), (of_three, 3)):
        [[beyond]] = known.beyond_by_few(np.log(found.hardly_more)[:, None] + 0.1)
        assert 0.6 * RARE / stages < beyond <= RARE / stages
    assert of_one.log_chances.tolist() == of_three.log_chances.tolist()
    [far] = luck(
        theta, np.array([-0.1]), np.array([0.07]), 3, 3, 3, user_luck(np.array([0.002]), 270.0, 30.0, 10)
    ).hardly_more
    assert far > np.exp(theta[-1]), "in ten stages one of thirty users may bring more than the grid has"


def test_no_bet_is_won_by_one_user_who_always_fails() -> None:
    """Of the benchmark's healthy versions those four that were rolled back so, at 10%, 25% and 50%."""
    assert not any(
        outcome.rolled_back for outcome in run_some("users", "300 users who stay", [63, 75, 220, 246])
    )


def test_users_are_drawn_in_stages_of_a_weight_alone() -> None:
    policy = Policy.load(
        a_policy().dump()
        | {"stages": [{"mirror": "10%"}, {"weight": 20}, {"weight": 60}, {"weight": 100}]}
        | {"route": {"virtualService": "sockshop", "affinity": {"users": 100}}}
    )
    spans = [Span(stage, weight, 0) for stage, weight in enumerate(policy.weights)]
    assert [drawn(policy, span) for span in spans] == [None, Drawn(80.0, 20.0, 2), Drawn(40.0, 60.0, 2), None]
    assert drawn(a_policy(), Span(0, 10, 0)) is None


def test_the_rollouts_odds_are_the_mean_of_its_stages() -> None:
    users = Drawn(900, 100, 3)
    assert users.together([], 7.0) == pytest.approx((7 + 1 + 1) / 3)
    assert users.together([4.0], 7.0) == pytest.approx((4 + 7 + 1) / 3)
    assert users.together([9.0, 4.0, 2.0, 4.0], 7.0) == pytest.approx((2 + 4 + 7) / 3), (
        "stepped back: each stage once"
    )


def test_a_verdict_says_that_users_were_drawn_and_what_their_luck_may_bring() -> None:
    [service] = services(Scenario(), 1, seed=1)
    judge = Judge(by_user(2000), service.history(120))
    judge.open(Span(0, 10, service.now))
    for _ in range(4):
        verdict = verdict_after(judge, service.look(10))
    [note] = [note for note in verdict.notes if "users were drawn" in note]
    assert (
        "and not requests: of 2,000 by the policy, 200 are the canary's; a ratio of errors of up to " in note
    )


@pytest.mark.parametrize(
    ("share", "users", "is_off"),
    [
        (0.17, 0.0, True),
        (0.17, 1000, False),
        (0.03, 1000, False),
        (0.17, 100_000, True),
        (0.0, 100, True),
        (0.005, 100, True),
        (0.3, 100, False),
        (0.95, 100, True),
        (1.0, 100, True),
    ],
)
def test_the_share_of_requests_follows_users_roughly_and_none_or_nearly_all_is_still_told(
    share: float, users: float, is_off: bool
) -> None:
    split = SampleRatio(10, luck=Drawn(0.9 * users, 0.1 * users, 1).share_luck if users else 0.0)
    for _ in range(30):
        split.observe(2000 * share, 2000 * (1 - share))
    assert split.traffic.is_off is is_off
    for _ in range(30):
        split.observe(200, 1800)
    assert not split.traffic.is_off

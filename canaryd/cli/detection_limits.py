"""What a policy cannot catch, in sentences: for `validate`, which knows no traffic, and `plan`, which does.

The numbers are of `simulation/detection_power.py`; nothing here computes any."""

from collections.abc import Iterator

from canaryd.domain.formatting import percent_text, short
from canaryd.domain.policy.policy import Policy
from canaryd.simulation.detection_power import (
    WANTED,
    Ladder,
    ServiceTraffic,
    ladder_of,
    power,
    rate_needed,
    times_caught,
    users_needed,
    with_users,
)

TIMES = 5.0  # stable's errors: what is plain harm to any reader
LEAST_SHOWN = 0.03  # of rollouts: no less is known from so many draws
SHOWN_USERS = (1_000, 10_000, 100_000)
CAUGHT = "is rolled back before full weight, within the stages' deadlines, in"
IN_WORDS = {5.0: "five times"}


def of_users(policy: Policy, traffic: ServiceTraffic, users: int | None = None) -> Iterator[str]:
    """What a policy with affinity catches; nothing without. users: instead of the policy's, of which alone
    is told then."""
    ladder = ladder_of(policy)
    if ladder is None or ladder.users is None or _times(traffic) is None:
        return
    own = with_users(ladder, users if users is not None else ladder.users)
    others = () if users is not None else tuple(number for number in SHOWN_USERS if number != own.users)
    shown = [
        f"{_share(power(one, traffic, TIMES).caught)} with {one.users:,} users"
        for one in (own, *(with_users(own, number) for number in others))
    ]
    yield (
        f"each user stays on one version: at {short(traffic.rate)} requests/s {_harm(traffic)} {CAUGHT} "
        f"{', '.join(shown)}{_users_needed(own, traffic)}"
    )


def of_users_in_a_plan(policy: Policy, traffic: ServiceTraffic) -> Iterator[str]:
    """The same where too little is caught, and what is."""
    ladder = ladder_of(policy)
    if ladder is None or ladder.users is None or not _catches_too_little(ladder, traffic):
        return
    yield from of_users(policy, traffic, ladder.users)
    least = times_caught(ladder, traffic)
    if least is not None:
        nine = f"{WANTED:.0%} are caught from about {short(least)} times the errors on"
        yield f"with {ladder.users:,} users {nine}"


def of_requests(policy: Policy, traffic: ServiceTraffic) -> Iterator[str]:
    """What a policy that draws requests cannot catch with so few; nothing where it can."""
    ladder = ladder_of(policy)
    if ladder is None or ladder.users is not None or not _catches_too_little(ladder, traffic):
        return
    needed = rate_needed(ladder, traffic, TIMES)
    enough = "no rate is enough" if needed is None else f"{WANTED:.0%} take about {short(needed)} requests/s"
    caught = power(ladder, traffic, TIMES).caught
    yield (f"{short(traffic.rate)} requests/s are few: {_harm(traffic)} {CAUGHT} {_share(caught)}; {enough}")


def _times(traffic: ServiceTraffic) -> float | None:
    """None where so many times as many would be more than all requests, or there are no errors at all."""
    return TIMES if 0 < traffic.errors * TIMES < 1 else None


def _catches_too_little(ladder: Ladder, traffic: ServiceTraffic) -> bool:
    return _times(traffic) is not None and power(ladder, traffic, TIMES).caught < WANTED


def _share(caught: float) -> str:
    """Of so few draws the last digits mean nothing."""
    if caught < LEAST_SHOWN:
        return "hardly any rollout"
    return "nearly all rollouts" if caught > 1 - LEAST_SHOWN else f"about {caught:.0%} of rollouts"


def _harm(traffic: ServiceTraffic) -> str:
    worse = f"{percent_text(traffic.errors)} to {percent_text(TIMES * traffic.errors)}"
    return f"a version that fails {IN_WORDS[TIMES]} as many requests ({worse})"


def _users_needed(ladder: Ladder, traffic: ServiceTraffic) -> str:
    if power(ladder, traffic, TIMES).caught >= WANTED:
        return ""
    needed = users_needed(ladder, traffic, TIMES)
    if needed is not None:
        return f"; {WANTED:.0%} take about {needed:,} users"
    rate = rate_needed(ladder, traffic, TIMES)
    more = f" without about {short(rate)} requests/s" if rate is not None else ""
    return f"; no number of users makes that {WANTED:.0%}{more}"

"""The services that are simulated: healthy ones in every kind of trouble, bad ones, and ones whose fault
begins late."""

from dataclasses import dataclass, replace
from enum import StrEnum

from bench.rollouts import LONGEST
from bench.unlike_users import Matched, People
from canaryd.domain.counts import HISTORY_LOOKS
from canaryd.simulation.simulated_rollout import USUAL_LAG, Lag
from canaryd.simulation.simulated_service import Scenario


@dataclass(frozen=True)
class Case:
    """A world, and how its rollouts are run.

    climbing=False: kept at 10%; past: looks of stable before, and before: how the world was then, if it was
    another, until `since` looks before the rollout; limit: the policy's `max` of errors; warmup: the
    policy's, where it is not the default; longest: looks watched; minimum: of each stage, last: of the one at
    100%; goal: what is to be reached, see the module that runs it; note: which assumption of the promise it
    breaks; lag: as live, None: nothing is late.
    """

    name: str
    world: Scenario
    climbing: bool = True
    past: int = HISTORY_LOOKS
    before: Scenario | None = None
    since: int = 0
    limit: str | None = None
    warmup: str | None = None
    longest: int = LONGEST
    minimum: str = "2m"
    last: str = "2m"
    goal: float | None = None
    note: str = ""
    lag: Lag | None = None


COLD_START = Scenario(cold_errors=0.05, cold_seconds=120.0)
SHOWN = "spells have to show in stable's past"
COVERED = "the warm-up has to cover the start"
HEALTHY = (
    Case("independent errors", Scenario()),
    Case("errors in bursts of 4", Scenario(burst=4)),
    Case("errors in bursts of 16", Scenario(burst=16)),
    Case("errors in bursts of 64", Scenario(burst=64)),
    Case("bad spells of 3 looks", Scenario(bad=0.1, spell=3), note=SHOWN),
    Case("bad spells of 6 looks", Scenario(bad=0.1, spell=6), note=SHOWN),
    Case("bad spells of 18 looks", Scenario(bad=0.1, spell=18), note=SHOWN),
    Case("replicas hang now and then", Scenario(hanging=0.02)),
    Case("replicas hang, in spells of 6 looks", Scenario(hanging=0.02, spell=6), note=SHOWN),
    Case("base rate swings by 80% in an hour", Scenario(swing=0.8)),
    Case("replicas' error rates differ, sd 10%", Scenario(noise=0.1)),
    Case("replicas' error rates differ, sd 30%", Scenario(noise=0.3)),
    Case("replicas' latencies differ, sd 10%", Scenario(latency_noise=0.1)),
    Case("one canary replica on a node half as fast", Scenario(slow_node=2.0)),
    Case("retry storms: clients fail 16 times in 4 looks", Scenario(retries=4.0, spell=4)),
    Case("1 request/s", Scenario(requests=1.0)),
    Case("2,000 requests/s", Scenario(requests=2000.0)),
    Case("2,000 requests/s, bursts of 16", Scenario(requests=2000.0, errors=0.01, burst=16), climbing=False),
    Case("2,000 requests/s, bursts of 64", Scenario(requests=2000.0, errors=0.025, burst=64), climbing=False),
    Case("no errors at all", Scenario(errors=0.0)),
    Case("5% errors", Scenario(errors=0.05)),
    Case("0.001% errors, the canary 0.05% more", Scenario(errors=1e-5, more_errors=5e-4)),
    Case("stable has one replica, the canary three", Scenario(stable_replicas=1)),
    Case("one replica each", Scenario(replicas=1)),
    Case("each version's rate jitters, sd 0.5", Scenario(jitter=0.5)),
    Case("errors in bursts of 4, independent ones before", Scenario(burst=4), before=Scenario()),
    Case("errors in bursts of 16, independent ones before", Scenario(burst=16), before=Scenario()),
    Case("replicas hang now and then, none did before", Scenario(hanging=0.02), before=Scenario()),
    Case("stable is 10 minutes old", Scenario(), past=60),
    Case("stable has no past", Scenario(), past=0),
    Case("stable is one minute old", Scenario(), past=6),
    Case("0.5% errors, 5% from a minute before on", Scenario(errors=0.05), before=Scenario(), since=6),
    Case("5% errors until a minute before", Scenario(), before=Scenario(errors=0.05), since=6),
    Case("2% errors in bursts of 16", Scenario(errors=0.02, burst=16)),
    Case("6% errors in bursts of 16", Scenario(errors=0.06, burst=16)),
    Case("10% errors in bursts of 16", Scenario(errors=0.1, burst=16)),
    Case("6% errors in bursts of 64", Scenario(errors=0.06, burst=64)),
    Case("limit of 5%", Scenario(), limit="5%"),
    Case(
        "limit of 5%, a version fails 10% in spells of 18 looks, a third of the time",
        Scenario(errors=0.01, bad=1 / 3, spell=18),
        limit="5%",
        note=SHOWN,
    ),
    Case(
        "limit of 5%, both versions fail 10% in spells of 18 looks, a third of the time",
        Scenario(errors=0.01, outages=1 / 3, spell=18),
        limit="5%",
    ),
    Case(
        "5% fail at a pod's start, falling off over a minute",
        Scenario(cold_errors=0.05, cold_seconds=60.0),
    ),
    Case("5% fail at a pod's start, falling off over two minutes", COLD_START, note=COVERED),
    Case("5% fail at a pod's start, falling off over two minutes, warmup 2m", COLD_START, warmup="2m"),
    Case(
        "5% fail at a pod's start, falling off over two minutes, warmup 2m, scaling out after five",
        replace(COLD_START, scale_out=300.0),
        warmup="2m",
    ),
    Case("traffic falls to 2 requests/s after three minutes", Scenario(falls_to=2.0, falls_after=180.0)),
)

# What must be ruled out to pass early: twice the rate (and half a point more), or 25% slower.
UNACCEPTABLE = (
    Case("errors 0.5% to 1%", Scenario(canary_errors=2.0)),
    Case("errors 0.5% to 1%, in bursts of 4", Scenario(canary_errors=2.0, burst=4)),
    Case("errors 0.5% to 1%, in bursts of 16", Scenario(canary_errors=2.0, burst=16)),
    Case("errors 0.5% to 1%, replicas hang now and then", Scenario(canary_errors=2.0, hanging=0.02)),
    *(
        Case(
            f"errors 0.5% to 1%, in bad spells of {spell} looks",
            Scenario(canary_errors=2.0, bad=0.1, spell=spell),
        )
        for spell in (3, 6, 18)
    ),
    Case(
        "errors 2% to 4%, 200 requests/s, in bursts of 16",
        Scenario(errors=0.02, canary_errors=2.0, burst=16, requests=200.0),
    ),
    Case("no errors to 0.5%", Scenario(errors=0.0, more_errors=0.005)),
    Case("latency 1.25 times", Scenario(canary_latency=1.25)),
    Case("latency 1.25 times, one replica each", Scenario(canary_latency=1.25, replicas=1)),
)

HOUR = 360  # looks of 10 s
BAD = (
    Case("errors 1% to 3%", Scenario(errors=0.01, canary_errors=3.0), False, longest=HOUR, goal=15),
    Case(
        "errors 1% to 3%, with the lag and the warm-up of a live rollout",
        Scenario(errors=0.01, canary_errors=3.0),
        False,
        longest=HOUR,
        lag=USUAL_LAG,
    ),
    Case("errors 1% to 2%", Scenario(errors=0.01, canary_errors=2.0), False, longest=HOUR),
    Case("errors 0.5% to 1%", Scenario(canary_errors=2.0), False, longest=HOUR),
    Case("errors 0.5% to 3%, in bursts of 4", Scenario(canary_errors=6.0, burst=4), False, longest=HOUR),
    Case("errors 0 to 1%", Scenario(errors=0.0, more_errors=0.01), False, longest=HOUR),
    Case(
        "errors 1% to 3%, new pods",
        Scenario(errors=0.01, canary_errors=3.0, is_new=True),
        False,
        longest=HOUR,
    ),
    Case("errors 0.5% to 5%, new pods", Scenario(canary_errors=10.0, is_new=True), False, longest=HOUR),
    Case("errors 0.5% to 30%, new pods", Scenario(more_errors=0.295, is_new=True), False, longest=HOUR),
    Case("errors 0.1% to 1%", Scenario(errors=0.001, canary_errors=10.0), False, longest=HOUR),
    Case("errors 5% to 7%", Scenario(errors=0.05, canary_errors=1.4), False, longest=HOUR),
    Case("errors 5% to 10%", Scenario(errors=0.05, canary_errors=2.0), False, longest=HOUR),
    Case(
        "every request fails, 10 requests/s, looks of 5 s",
        Scenario(requests=10.0, more_errors=1.0, interval=5),
        False,
        longest=HOUR,
        goal=4,
    ),
    Case(
        "every request fails, looks of 5 s",
        Scenario(more_errors=1.0, interval=5),
        False,
        longest=HOUR,
        goal=2,
    ),
    Case(
        "every request fails after ten minutes, looks of 5 s",
        Scenario(more_errors=1.0, interval=5, fault_begins=600.0),
        False,
        longest=HOUR,
        goal=3,
    ),
    Case(
        "every request fails, stable has no past, looks of 5 s",
        Scenario(more_errors=1.0, interval=5),
        False,
        past=0,
        longest=HOUR,
        goal=2,
    ),
    Case(
        "every request fails, new pods, looks of 5 s",
        Scenario(more_errors=1.0, interval=5, is_new=True),
        False,
        longest=HOUR,
        goal=2,
    ),
    Case("every request fails, one replica each", Scenario(more_errors=1.0, replicas=1), False, longest=HOUR),
    Case(
        "every request fails, one new pod each",
        Scenario(more_errors=1.0, replicas=1, is_new=True),
        False,
        longest=HOUR,
    ),
    Case(
        "half of the requests fail, looks of 5 s",
        Scenario(more_errors=0.5, interval=5),
        False,
        longest=HOUR,
        goal=8,
    ),
    Case("one of three replicas fails every request", Scenario(broken=1), False, longest=HOUR, goal=13),
    Case(
        "limit of 5%, errors 0.5% to 8%",
        Scenario(canary_errors=16.0),
        False,
        longest=HOUR,
        limit="5%",
    ),
    Case(
        "errors 1% to 3% from weight 50 on",
        Scenario(errors=0.01, canary_errors=3.0, fault_weight=50),
        longest=HOUR,
    ),
    Case("latency 1.25 times", Scenario(canary_latency=1.25), False, longest=HOUR),
    Case("latency 1.5 times", Scenario(canary_latency=1.5), False, longest=HOUR),
    Case("latency 2 times", Scenario(canary_latency=2.0), False, longest=HOUR),
    Case("3% of requests stuck for 3 s", Scenario(stuck=0.03), False, longest=HOUR),
    Case("a fifth of the requests twice as slow", Scenario(second_mode=0.2), False, longest=HOUR),
)

LATE_WORLD = Scenario(errors=0.002, more_errors=0.048, interval=15, fault_begins=600.0)
LATE = (
    Case("at weight 25", LATE_WORLD, minimum="6m", last="1h", longest=160, goal=25),
    Case("at weight 50", LATE_WORLD, minimum="4m", last="1h", longest=160, goal=50),
    Case("at weight 100", LATE_WORLD, minimum="1m", last="1h", longest=160, goal=100),
)

PACE: tuple[Case, ...] = (
    Case("50 requests/s, 0.5% errors", Scenario(), goal=7.0),
    Case("1,000 requests/s, 0.5% errors", Scenario(requests=1000.0), goal=6 + 20 / 60),
    Case("20 requests/s, no errors at all", Scenario(requests=20.0, errors=0.0), goal=8.0),
    Case(
        "50 requests/s, 0.5% errors, with the lag and the warm-up of a live rollout",
        Scenario(),
        lag=USUAL_LAG,
    ),
    Case("20 requests/s, 0.5% errors", Scenario(requests=20.0), longest=HOUR),
    Case("50 requests/s, 0.5% errors in bursts of 4", Scenario(burst=4), goal=20.0),
    Case("50 requests/s, 0.5% errors in bursts of 16", Scenario(burst=16), longest=HOUR),
    Case("50 requests/s, 0.5% errors in bursts of 64", Scenario(burst=64), longest=HOUR),
    Case("1,000 requests/s, 0.5% errors in bursts of 16", Scenario(requests=1000.0, burst=16)),
    Case("1,000 requests/s, 0.5% errors, minimum 30 s", Scenario(requests=1000.0), minimum="30s", goal=2.0),
)


class Kind(StrEnum):
    """What is asked of a row: whether it is rolled back, whether it passes early, how soon it is caught."""

    HEALTHY = "healthy"
    UNACCEPTABLE = "unacceptable"
    BAD = "bad"


@dataclass(frozen=True)
class Users:
    """A world whose users are not alike, and how its rollouts are run.

    who: people who stay on their version, each drawn once, or matched ones, who are split; runs: rollouts.
    allowed=False: the policy does not know that users are drawn; what is measured then is why it should.
    """

    name: str
    kind: Kind
    world: Scenario
    who: People | Matched
    runs: int
    allowed: bool = True


STAY = {
    "10,000 users who stay": People(10_000),
    "1,000 users who stay": People(1_000),
    "300 users who stay": People(300),
    "300 users who stay, all of whom differ": People(300, unlucky=0.0, alike=0.05),
}
SOME_FAIL, SOME = "300 users who stay, some of whom often fail", People(300, unlucky=0.5, often=0.1)
NOT_ALLOWED = "which the policy does not say"
WORSE_OFF = Matched(errors=10.0, latency=1.5)
CALLERS = Scenario(requests=200.0, replicas=1)  # what they count tells no replicas apart

HEALTHY_USERS = (
    *(Users(name, Kind.HEALTHY, Scenario(), who, 400) for name, who in STAY.items()),
    Users(SOME_FAIL, Kind.HEALTHY, Scenario(), SOME, 400),
    Users(f"2% errors, {SOME_FAIL}", Kind.HEALTHY, Scenario(errors=0.02), SOME, 400),
    Users(
        f"2% errors, {SOME_FAIL}, {NOT_ALLOWED}",
        Kind.HEALTHY,
        Scenario(errors=0.02),
        SOME,
        400,
        allowed=False,
    ),
    Users("matched users, like all others", Kind.HEALTHY, CALLERS, Matched(), 400),
    Users("matched users who always fare worse", Kind.HEALTHY, CALLERS, WORSE_OFF, 400),
    Users(
        "matched users who always fare worse, errors in bursts of 4",
        Kind.HEALTHY,
        replace(CALLERS, burst=4),
        WORSE_OFF,
        400,
    ),
)
TWICE, CALLERS_TWICE = Scenario(canary_errors=2.0), replace(CALLERS, canary_errors=2.0)
UNACCEPTABLE_USERS = (
    *(Users(f"errors 0.5% to 1%, {name}", Kind.UNACCEPTABLE, TWICE, who, 300) for name, who in STAY.items()),
    Users(f"errors 0.5% to 1%, {SOME_FAIL}", Kind.UNACCEPTABLE, TWICE, SOME, 300),
    Users(
        f"errors 0.5% to 1%, {SOME_FAIL}, {NOT_ALLOWED}", Kind.UNACCEPTABLE, TWICE, SOME, 300, allowed=False
    ),
    Users(
        "latency 1.25 times, 300 users who stay",
        Kind.UNACCEPTABLE,
        Scenario(canary_latency=1.25),
        People(300),
        300,
    ),
    Users("errors 5% to 10%, matched users", Kind.UNACCEPTABLE, CALLERS_TWICE, WORSE_OFF, 300),
    Users(
        "errors 5% to 10% in bursts of 4, matched users",
        Kind.UNACCEPTABLE,
        replace(CALLERS_TWICE, burst=4),
        WORSE_OFF,
        300,
    ),
    Users(
        "latency 1.25 times, matched users",
        Kind.UNACCEPTABLE,
        replace(CALLERS, canary_latency=1.25),
        WORSE_OFF,
        300,
    ),
)
BAD_USERS = (
    *(
        Users(
            f"errors 0.5% to {share}%, {number:,} users who stay",
            Kind.BAD,
            Scenario(canary_errors=times),
            People(number),
            100,
        )
        for share, times in (("1.5", 3.0), ("2.5", 5.0))
        for number in (10_000, 1_000, 300)
    ),
    *(
        Users(
            f"latency 1.5 times, {number:,} users who stay",
            Kind.BAD,
            Scenario(canary_latency=1.5),
            People(number),
            100,
        )
        for number in (10_000, 1_000, 300)
    ),
    Users("errors 5% to 15%, matched users", Kind.BAD, replace(CALLERS, canary_errors=3.0), WORSE_OFF, 100),
    Users("latency 1.5 times, matched users", Kind.BAD, replace(CALLERS, canary_latency=1.5), WORSE_OFF, 100),
)

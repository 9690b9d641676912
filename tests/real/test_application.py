"""The application behind the replicas fails and dawdles as it is told. Needs no real parts."""

from __future__ import annotations

import asyncio
import time
from itertools import groupby

import numpy as np
import pytest

from tests.real.cluster import application as application_module
from tests.real.cluster.application import Application, Behaviour

REQUESTS = 200_000


@pytest.mark.parametrize("burst", [1, 4, 16])
def test_bursts_change_how_failures_cluster_and_not_how_many_there_are(burst: int) -> None:
    application, behaviour = Application(), Behaviour(errors=0.05, burst=burst)
    failed = [application.fails("v2", behaviour) for _ in range(REQUESTS)]
    spells = [len(list(run)) for bad, run in groupby(failed) if bad]
    # Standard deviation of the share: sqrt(0.05 * 0.95 * (2 * 16 - 1) / 200000) = 0.0027 at a burst of 16.
    assert sum(failed) / REQUESTS == pytest.approx(0.05, abs=0.011)
    # A spell may follow the one before at once, which lengthens it by a twentieth.
    assert sum(spells) / len(spells) == pytest.approx(burst / 0.95, rel=0.15)


def test_a_tail_slows_its_share_of_the_requests_and_no_others() -> None:
    application, behaviour = (
        Application(),
        Behaviour.parse({"latency_ms": 20, "sigma": 0.1, "tail": {"share": 0.02, "ms": 400}}),
    )
    delays = [application.delay(behaviour) for _ in range(20_000)]
    slow = [delay for delay in delays if delay > 0.2]
    assert len(slow) / len(delays) == pytest.approx(0.02, abs=0.004)  # four standard deviations
    assert min(slow) > 0.4
    assert sorted(delays)[10_000] == pytest.approx(0.020, rel=0.02)


def test_a_replica_hangs_as_long_and_as_often_as_it_is_told_and_the_others_by_themselves() -> None:
    application, behaviour = Application(), Behaviour.parse({"hang": {"every": 30, "seconds": 2}})
    looks = [
        (application.hangs("a", behaviour, at), application.hangs("b", behaviour, at))
        for at in np.arange(0, 20_000, 0.1)
    ]
    for hung in zip(*looks, strict=True):
        spells = [len(list(run)) for bad, run in groupby(hung) if bad]
        assert min(spells) >= 19  # tenths of a second; two that follow each other at once are one
        assert sorted(spells)[len(spells) // 2] == pytest.approx(20, abs=1)
        # About 620 spells, whose number has a standard deviation of 25 at most: five of them.
        assert sum(hung) / len(hung) == pytest.approx(2 / 32, abs=0.0125)
    assert sum(both == (True, True) for both in looks) < len(looks) * 0.01


def test_a_pod_may_behave_unlike_the_others_of_its_version() -> None:
    async def ask(application: Application, pod: str) -> str:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", await application.serve(pod, "v2", "shop")
        )
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        answer = (await reader.readline()).decode()
        writer.close()
        application.leave(pod)
        return answer

    async def ask_both() -> list[str]:
        application = Application()
        application.behave("shop/v2", Behaviour())
        application.behave("shop-v2-sick", Behaviour(errors=1.0))
        return [await ask(application, pod) for pod in ("shop-v2-sick", "shop-v2-well")]

    sick, well = asyncio.run(ask_both())
    assert "503" in sick
    assert "200" in well


def test_half_of_a_hanging_replica_s_requests_fail_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application_module, "HANG_MS", 300.0)

    async def ask(application: Application, port: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        line = await reader.readline()
        writer.close()
        return line.decode().split()[1]

    async def answers() -> list[str]:
        application = Application()
        application.behave("v2", Behaviour(hang_every=1e-9, hang_seconds=60))
        port = await application.serve("pod", "v2")
        application.hangs("pod", application.behaviours["v2"], time.monotonic())  # the first one is drawn
        return await asyncio.gather(*(ask(application, port) for _ in range(60)))

    began = time.monotonic()
    statuses = asyncio.run(answers())
    assert time.monotonic() - began >= 0.3
    assert 10 < statuses.count("503") < 50  # five standard deviations
    assert statuses.count("200") + statuses.count("503") == 60


def test_a_version_of_one_app_may_behave_unlike_the_same_version_of_another() -> None:
    async def failures() -> dict[str, int]:
        application = Application()
        application.behave("v2", Behaviour(errors=0))
        application.behave("cart/v2", Behaviour(errors=1))
        for app in ("cart", "shop"):
            port = await application.serve(f"{app}-pod", "v2", app)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await reader.readline()
            writer.close()
        return {pod: tally.failures for pod, tally in application.tally.items()}

    assert asyncio.run(failures()) == {"cart-pod": 1, "shop-pod": 0}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"error_rate": 0.1}, "unknown: error_rate; wanted errors, burst, latency_ms, sigma, tail or hang"),
        ({"errors": 1.5}, "errors: wanted a share from 0 to 1, but got 1.5"),
        ({"latency_ms": "20ms"}, "latency_ms: wanted a number of at least 0, but got '20ms'"),
        ({"tail": 0.1}, "tail: wanted"),
        ({"hang": {"often": 3}}, 'hang: wanted {"every": ..., "seconds": ...}, but got'),
    ],
)
def test_a_behaviour_that_makes_no_sense_is_refused_by_name(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Behaviour.parse(given)

"""The promises once on the real parts: healthy and bad releases through real Envoys, judged on what a real Prometheus scraped.

    python -m bench.real_calibration [--quick] [--healthy 20] [--bad 20] [--services 4] [--rate 100] [--json FILE]

Several services take requests at the same time, each with its own everyday trouble (`WORLDS`), and release by release get a new
Deployment, now a healthy one and now one with a fault (`FAULTS`) on top of that trouble. A healthy one that is promoted becomes stable. One
`canaryd run` steers them all, by policies in seconds where real ones have minutes.

Counts are compared twice. What canaryd counted of each release must be what Prometheus' raw samples of the same seconds say, pod by pod;
and at the end, when nothing is under way, Prometheus must have of every pod what the application itself says it served.

Exit code 1 when a promise is broken: more healthy releases rolled back than a risk of 1% allows, a bad one promoted, a count that is not
exact, a release that was not made. 20 healthy and 20 bad ones take about 25 minutes; SIGINT and SIGTERM end it with the table so far.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import floor, inf
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bench.machine import machine
from canaryd.stats.sampling import exact_interval, quantile
from tests.real.cluster.api import Api, Document
from tests.real.daemon import Canaryd, settings
from tests.real.world import OBJECTS, PartsMissing, World, check_parts, eventually, front_end

RISK = 0.01  # falseRollbackRisk's default
RATE = 100.0  # requests/s to each service
DEADLINES = {10: "20s", 25: "45s", 50: "90s"}  # what a service of this rate needs, without a bad release passing for want of requests
INTERVAL = 2  # s, one look
PATIENCE = 300.0  # s after which a release counts as undecided, and is taken back
WARM_UP = 60.0  # s of stable's requests before the first release: some past to judge by
QUIET = 5.0  # s between a release's end and the next one; what it left is deleted then
POLL = 0.5  # s between two reads of a record
REPLICAS = 2  # of each version
USUAL = {"latency_ms": 20, "sigma": 0.4}

WORLDS: dict[str, tuple[str, dict[str, Any]]] = {  # service: its trouble in words, and how each of its versions answers
    "steady": ("independent errors, 0.5%", {**USUAL, "errors": 0.005}),
    "bursty": ("errors in bursts of 4, 1%", {**USUAL, "errors": 0.01, "burst": 4}),
    "flawless": ("no errors at all", USUAL),
    "hanging": ("a replica hangs now and then", {**USUAL, "errors": 0.005, "hang": {"every": 60, "seconds": 2}}),
}


@dataclass(frozen=True)
class Fault:
    """name: in words; behaviour: what differs from the service's usual one; since: the weight at which it begins (0: at once)."""

    name: str
    behaviour: Mapping[str, Any]
    since: int = 0


FAULTS = (
    Fault("errors to 5%", {"errors": 0.05}),
    Fault("latency twice", {"latency_ms": 40}),
    Fault("5% of requests stuck for 3 s", {"tail": {"share": 0.05, "ms": 3000}}),
    Fault("every request fails", {"errors": 1.0}),
    Fault("errors to 8% from weight 50 on", {"errors": 0.08}, since=50),
    Fault("errors to 8% from weight 100 on", {"errors": 0.08}, since=100),
)


@dataclass(frozen=True)
class Outcome:
    """How one release went.

    fault: "" for a healthy one; end: promoted, rolled back, or undecided; seconds: from the first weight to the end, of a bad one from its
    fault's beginning (a rollback before that is one of a healthy release); counted: version to requests and failures, as canaryd has
    them; inexact: pods whose counts Prometheus has otherwise.
    """

    service: str
    version: str
    fault: str
    end: str
    seconds: float
    weight: int
    reason: str
    counted: Mapping[str, tuple[int, int]]
    inexact: Mapping[str, str]


class Stopped(Exception):
    """The run is being ended."""


def plan(services: Sequence[str], healthy: int, bad: int) -> dict[str, list[Fault | None]]:
    """Each service's releases in turn, None for a healthy one.

    Both sorts are dealt out evenly, in turns within a service; each round of faults begins one further on, so that a service does not
    meet the same few again and again.
    """
    count = len(services)
    faults = [FAULTS[(i + i // count) % len(FAULTS)] for i in range(bad)]
    releases: dict[str, list[Fault | None]] = {}
    for place, service in enumerate(services):
        good: list[Fault | None] = [None] * len(range(place, healthy, count))
        worse = faults[count - 1 - place :: count]  # from the other end: few releases spread over many services
        turns = (good, worse) if place % 2 == 0 else (worse, good)
        releases[service] = [one for i in range(max(len(good), len(worse))) for turn in turns for one in turn[i : i + 1]]
    return releases


def a_policy(service: str) -> dict[str, Any]:
    stages = [{"weight": weight, "minimum": "10s", "deadline": deadline} for weight, deadline in DEADLINES.items()]
    return {
        "service": {"name": service, "namespace": "production", "selector": {"app": service}},
        "route": {"virtualService": service},
        "stages": [*stages, {"weight": 100, "minimum": "30s", "deadline": "60s"}],
        "analysis": {"interval": f"{INTERVAL}s", "warmup": "2s", "noDataFor": "15s"},
    }


def deployment(service: str, version: str) -> Document:
    renamed = json.dumps(front_end(version, replicas=REPLICAS)).replace("front-end", service)
    return dict(json.loads(renamed))


def objects(service: str) -> Iterator[Document]:
    """What the use case has of front-end, for another service: by its host on the same gateway."""
    for name in ("service", "destinationrule", "virtualservice"):
        text = (OBJECTS / f"{name}.yaml").read_text().replace("front-end", service)
        document: Document = YAML(typ="safe").load(text)
        if name == "virtualservice":
            document["metadata"]["name"] = service
            document["spec"]["hosts"] = [host_of(service)]
        yield document
    yield deployment(service, "v1")


def host_of(service: str) -> str:
    return f"{service}.example"


class Run:
    """All services' releases, one thread for each service."""

    def __init__(self, world: World, daemon: Canaryd) -> None:
        self.world, self.daemon = world, daemon
        self.outcomes: list[Outcome] = []
        self.stopped = threading.Event()
        self.began = time.monotonic()
        self._saying = threading.Lock()

    def service(self, name: str, releases: Sequence[Fault | None]) -> None:
        """One after the other; Stopped when the run ends before them."""
        releaser = Releaser(self, name)
        for fault in releases:
            outcome = releaser.release(fault)
            with self._saying:
                self.outcomes.append(outcome)
                print(self._line(outcome), flush=True)

    def _line(self, one: Outcome) -> str:
        counts = ", ".join(f"{version} {failures} of {requests:,}" for version, (requests, failures) in one.counted.items())
        right = one.end == ("rolled back" if one.fault else "promoted")
        return (f"{time.monotonic() - self.began:5.0f} s  {one.service:9}{one.version:5}{one.fault or 'healthy':32}{'' if right else '! '}"
                f"{one.end} at {one.weight}% after {one.seconds:.0f} s; failed: {counts}{'; INEXACT' if one.inexact else ''}; {one.reason}")

    def pause(self, seconds: float) -> None:
        if self.stopped.wait(seconds):
            raise Stopped
        if not self.daemon.alive:
            raise AssertionError(f"canaryd ended:\n{self.daemon.log[-2000:]}")


class Releaser:
    """One service's: which version is stable, and which comes next."""

    def __init__(self, run: Run, service: str) -> None:
        self.run, self.name = run, service
        self.usual = WORLDS[service][1]
        self.api = Api(run.world.kubeconfig, "production")
        self.stable, self.number = "v1", 1

    def behave(self, version: str, fault: Fault | None = None) -> None:
        self.run.world.behaviour(f"{self.name}/{version}", **{**self.usual, **(fault.behaviour if fault else {})})

    def release(self, fault: Fault | None) -> Outcome:
        self.number += 1
        version = f"v{self.number}"
        self.behave(version, fault if fault and not fault.since else None)
        self.api.request("POST", "/apis/apps/v1/namespaces/production/deployments", deployment(self.name, version))
        record, fault_began = self.follow(version, fault)
        status = record["status"]
        end = {"Succeeded": "promoted", "RolledBack": "rolled back"}.get(status["phase"], "undecided")
        weight = status["weight"] if end == "undecided" else weight_before_the_end(status)
        if end == "undecided":
            self.run.daemon.cli("abort", record["metadata"]["name"], "--namespace", "production")
            self.ended(version, 30)
        counted, inexact = self.counts(version, status)
        harmed = fault is not None and (not fault.since or fault_began is not None)
        since = fault_began or next((span["start"] for span in status.get("spans", ())), status["began"])
        self.run.pause(QUIET)
        gone = self.stable if end == "promoted" else version
        self.api.request("DELETE", f"/apis/apps/v1/namespaces/production/deployments/{self.name}-{gone}?propagationPolicy=Background")
        if end == "promoted":
            self.stable = version
            self.behave(version)
        return Outcome(self.name, version, fault.name if fault and harmed else "", end, status.get("ended", time.time()) - since, weight,
                       status.get("reason", ""), counted, inexact)

    def follow(self, version: str, fault: Fault | None) -> tuple[Document, float | None]:
        """The record at the rollout's end, or after PATIENCE; when a late fault began."""
        fault_began, until = None, time.monotonic() + PATIENCE
        while True:
            self.run.pause(POLL)
            record = self.record(version)
            status = record.get("status", {}) if record else {}
            if fault and fault.since and fault_began is None and status.get("weight", 0) >= fault.since:
                self.behave(version, fault)
                fault_began = time.time()
            if record and (status.get("phase") in ("Succeeded", "RolledBack", "Superseded") or time.monotonic() > until):
                return record, fault_began
            if time.monotonic() > until:
                raise AssertionError(f"{self.name} {version}: no rollout after {PATIENCE:.0f} s:\n{self.run.daemon.log[-2000:]}")

    def ended(self, version: str, seconds: float) -> None:
        eventually(f"{self.name} {version} is taken back", lambda: (self.record(version) or {}).get("status", {}).get("ended"), seconds)

    def record(self, version: str) -> Document | None:
        where = f"/apis/canaryd.dev/v1alpha1/namespaces/production/canaryrollouts?labelSelector=canaryd.dev/service%3D{self.name}"
        return next((one for one in self.api.request("GET", where)["items"] if one["spec"]["version"] == version), None)

    def counts(self, version: str, status: Document) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
        """By version, as canaryd counted them; and the pods of which Prometheus says otherwise."""
        mine = {pod: (one["requests"], one["failures"]) for pod, one in status.get("counted", {}).items() if one["requests"]}
        versions = {self.stable: f"{self.name}-{self.stable}-", version: f"{self.name}-{version}-"}
        theirs = self.stored(floor(status["began"]), status.get("countedTo", floor(status["began"])), tuple(versions.values()))
        inexact = {pod: f"canaryd {mine.get(pod)}, Prometheus {theirs.get(pod)}"
                   for pod in mine.keys() | theirs.keys() if mine.get(pod) != theirs.get(pod)}
        sums = {}
        for name, prefix in versions.items():
            of_version = [counts for pod, counts in mine.items() if pod.startswith(prefix)]
            sums[name] = (sum(requests for requests, _ in of_version), sum(failures for _, failures in of_version))
        return sums, inexact

    def stored(self, start: int, end: int, prefixes: tuple[str, ...]) -> dict[str, tuple[int, int]]:
        """Pod to requests and failures in (start, end], the difference of its counters' last raw samples; no pod restarts here."""
        counted: dict[str, list[int]] = {}
        for at, sign in ((end, 1), (start, -1)):
            selector = f'istio_requests_total{{reporter="destination", destination_service_name="{self.name}"}}'
            for series in self.run.world.query(f"last_over_time({selector}[{end - start + 60}s] @ {at})"):
                pod, code, value = series["metric"]["pod"], series["metric"]["response_code"], int(series["value"][1])
                both = counted.setdefault(pod, [0, 0])
                both[0] += sign * value
                both[1] += sign * value if code.startswith("5") else 0
        return {pod: (both[0], both[1]) for pod, both in counted.items() if pod.startswith(prefixes) and both[0]}


def weight_before_the_end(status: Document) -> int:
    """The last weight above 0 that the record tells of: where the decision fell."""
    return next((one["weight"] for one in reversed(status["decisions"]) if one["weight"]), 0)


def set_up(world: World, daemon: Canaryd, services: Sequence[str]) -> None:
    """Every service with its first version behind the gateway, known to the daemon."""
    world.apply(OBJECTS / "gateway.yaml")
    for service in services:
        world.behaviour(f"{service}/v1", **WORLDS[service][1])
        for document in objects(service):
            world.apply(document)
    wanted = {f"{service}-v1" for service in services}
    eventually("all of v1 serve", lambda: len(world.serving().get("v1", [])) == REPLICAS * len(wanted), 60)
    daemon.start()
    eventually("canaryd knows every service", lambda: len(daemon.logged("service.first_seen")) == len(services), 60)


def untold(world: World, seconds: float) -> dict[str, str]:
    """Pods of which Prometheus does not have what the application says it served, within `seconds` of the last request."""
    wanted = {pod: (one["requests"], one["failures"]) for pod, one in world.tally().items() if one["requests"]}
    until = time.monotonic() + seconds
    while True:
        stored = {pod: (one["requests"], one["failures"]) for pod, one in world.counted("2h").items()}
        wrong = {pod: f"served {served}, Prometheus {stored.get(pod)}" for pod, served in wanted.items() if stored.get(pod) != served}
        if not wrong or time.monotonic() > until:
            return wrong
        time.sleep(1)


# ---------------------------------------------------------------- the report


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def of_share(events: int, runs: int) -> str:
    low, high = exact_interval(events, runs)
    return f"{events} ({low:.1%} to {high:.0%})"


def _seconds(value: float) -> str:
    return "-" if value == inf else f"{value:.0f} s"


def table(outcomes: Sequence[Outcome]) -> str:
    """In Markdown, healthy releases by service and bad ones by fault."""
    healthy, bad = [one for one in outcomes if not one.fault], [one for one in outcomes if one.fault]
    parts = []
    if healthy:
        lines = _head("healthy releases", "promoted", "rolled back (exact 95% interval)", "until promoted, median")
        for service, (world, _) in WORLDS.items():
            lines += _row(world, [one for one in healthy if one.service == service], "promoted", "rolled back")
        parts.append([*lines, *_row("all", healthy, "promoted", "rolled back")])
    if bad:
        lines = _head("bad releases", "rolled back", "promoted (exact 95% interval)", "from the fault to the rollback, median")
        for fault in FAULTS:
            lines += _row(fault.name, [one for one in bad if one.fault == fault.name], "rolled back", "promoted")
        parts.append([*lines, *_row("all", bad, "rolled back", "promoted")])
    return "\n\n".join("\n".join(lines) for lines in parts)


def _head(what: str, right: str, wrong: str, took: str) -> list[str]:
    heads = (what, "number", right, wrong, "undecided", took, "longest")
    return [row(*heads), row(*["---"] * len(heads))]


def _row(name: str, outcomes: Sequence[Outcome], right: str, wrong: str) -> list[str]:
    if not outcomes:
        return []
    ends = [one.end for one in outcomes]
    times = [one.seconds for one in outcomes if one.end == right]
    return [row(name, len(ends), ends.count(right), of_share(ends.count(wrong), len(ends)), ends.count("undecided"),
                _seconds(quantile(times, 0.5)), _seconds(max(times, default=inf)))]


def broken(outcomes: Sequence[Outcome], planned: int, wrong: Mapping[str, str]) -> list[str]:
    """Promises that were not kept, each in a sentence. wrong: pods whose requests Prometheus does not have."""
    healthy, bad = [[one for one in outcomes if bool(one.fault) == is_bad] for is_bad in (False, True)]
    back = sum(one.end == "rolled back" for one in healthy)
    told = []
    if healthy and exact_interval(back, len(healthy))[0] > RISK:
        told.append(f"{back} of {len(healthy)} healthy releases were rolled back: more than a risk of {RISK:.0%} allows")
    told += [f"{one.service} {one.version} ({one.fault}) was promoted" for one in bad if one.end == "promoted"]
    told += [f"{one.service} {one.version}: {pod}: {what}" for one in outcomes for pod, what in one.inexact.items()]
    told += [f"{pod}: {what}" for pod, what in wrong.items()]
    if len(outcomes) < planned:
        told.append(f"{planned - len(outcomes)} of {planned} releases were not made")
    return told


# ---------------------------------------------------------------- the run


def measure(given: argparse.Namespace, folder: Path, outcomes: list[Outcome]) -> dict[str, str]:
    """Makes the releases, each outcome handed over as it comes; pods whose requests Prometheus does not have. Raises Interrupted."""
    services = list(WORLDS)[: given.services]
    releases = {name: todo for name, todo in plan(services, given.healthy, given.bad).items() if todo}
    with ExitStack() as stack:
        world = stack.enter_context(World.start(folder / "world", apps=list(releases)))
        config = settings(world, notifiers={}, history=2)  # records are polled: few are kept
        daemon = Canaryd(folder, world.kubeconfig, config=config, policies={name: a_policy(name) for name in releases})
        stack.callback(daemon.close)
        set_up(world, daemon, list(releases))
        run = Run(world, daemon)
        run.outcomes = outcomes
        with ExitStack() as traffic:
            requests = [traffic.enter_context(world.load(given.rate, host=host_of(name))) for name in releases]
            try:
                time.sleep(given.warm_up)
                with ThreadPoolExecutor(len(releases)) as pool:
                    try:
                        futures = [pool.submit(run.service, name, todo) for name, todo in releases.items()]
                        wait(futures, return_when=FIRST_EXCEPTION)
                    finally:
                        run.stopped.set()
                for future in futures:
                    if (error := future.exception()) and not isinstance(error, Stopped):
                        raise error
            finally:
                took = time.monotonic() - run.began
        sent, unanswered = (sum(one.result[key] for one in requests) for key in ("sent", "unanswered"))
        print(f"\n{sent:,} requests, {unanswered} unanswered, in {took:.0f} s to {len(releases)} services ({sent / took:.0f}/s); "
              f"load {os.getloadavg()[0]:.1f}; the daemon {daemon.memory():.0f} MB", flush=True)
        wrong = untold(world, 10)
        served = [one["requests"] for one in world.tally().values() if one["requests"]]
        same = len(served) - len(wrong)
        print(f"{len(served)} pods served {sum(served):,} requests; of {same} Prometheus has the same counts", flush=True)
        return wrong


class Interrupted(Exception):
    """By a signal, whose number it holds."""


def _interrupt(number: int, _frame: object) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)  # the end takes seconds: it must be whole
    raise Interrupted(number)


def main(arguments: list[str]) -> int:
    given = parsed(arguments)
    try:
        check_parts()
    except PartsMissing as missing:
        print(f"left out: {missing}")
        return 0
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    print(f"On {machine()}; {given.services} services with {given.rate:g} requests/s each, {given.healthy} healthy and {given.bad} bad "
          f"releases, looks of {INTERVAL} s", flush=True)
    outcomes: list[Outcome] = []
    wrong: dict[str, str] = {}
    ended_by = 0
    with tempfile.TemporaryDirectory(prefix="canaryd-bench-") as folder:
        try:
            wrong = measure(given, Path(folder), outcomes)
        except Interrupted as interrupted:
            ended_by = interrupted.args[0]
            print(f"\nended by signal {ended_by}; so far:", flush=True)
    told = broken(outcomes, 0 if ended_by else given.healthy + given.bad, wrong)
    print(f"\n{table(outcomes)}\n")
    counted = sum(requests for one in outcomes for requests, _ in one.counted.values())
    exact = sum(not one.inexact for one in outcomes)
    print(f"canaryd counted {counted:,} requests; in {exact} of {len(outcomes)} releases exactly what Prometheus has, pod by pod")
    print("\n".join(f"BROKEN: {one}" for one in told) or "every promise was kept")
    if given.json:
        document = {"machine": machine(), "broken": told, "releases": [asdict(one) for one in outcomes]}
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    return 128 + ended_by if ended_by else int(bool(told))


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.real_calibration", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 healthy and 2 bad releases on 2 services")
    parser.add_argument("--healthy", type=int, default=20, help="how many releases")
    parser.add_argument("--bad", type=int, default=20, help="how many releases")
    parser.add_argument("--services", type=int, choices=range(1, len(WORLDS) + 1), default=len(WORLDS), help="at the same time")
    parser.add_argument("--rate", type=float, default=RATE, help="requests/s to each service")
    parser.add_argument("--warm-up", type=float, default=WARM_UP, help="seconds before the first releases")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every release there too")
    given = parser.parse_args(arguments)
    if given.quick:
        given.healthy, given.bad, given.services = 2, 2, 2
    return given


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

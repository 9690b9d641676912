"""What is released on the real parts, with which trouble and which faults, and how one release is made,
followed and counted.

Whether the promises were kept is `real_calibration.py`'s to say.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor
from typing import Any

from ruamel.yaml import YAML

from tests.real.cluster.api import Api, Document
from tests.real.daemon import Canaryd
from tests.real.world import OBJECTS, World, eventually, front_end

RATE = 100.0  # requests/s to each service
DEADLINES = {
    10: 20,
    25: 45,
    50: 90,
}  # s: what a service of this rate needs, without a bad release passing for want of requests
INTERVAL = 2  # s, one look
PATIENCE = 300.0  # s after which a release counts as undecided, and is taken back
QUIET = 5.0  # s between a release's end and the next one; what it left is deleted then
POLL = 0.5  # s between two reads of a record
REPLICAS = 2  # of each version
USUAL = {"latency_ms": 20, "sigma": 0.4}

# service: its trouble in words, and how each of its versions answers
WORLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "steady": ("independent errors, 0.5%", {**USUAL, "errors": 0.005}),
    "bursty": ("errors in bursts of 4, 1%", {**USUAL, "errors": 0.01, "burst": 4}),
    "flawless": ("no errors at all", USUAL),
    "hanging": (
        "a replica hangs now and then",
        {**USUAL, "errors": 0.005, "hang": {"every": 60, "seconds": 2}},
    ),
}


# The service whose releases are stories: things that happened, each once, in their order.
STORIED = "storied"
STORIED_WORLD = ("stories: independent errors, 0.5%", {**USUAL, "errors": 0.005})
STORIED_RATE, STORIED_REPLICAS = 50.0, 3


@dataclass(frozen=True)
class Fault:
    """name: in words; behaviour: what differs from the service's usual one; since: the weight at which it
    begins (0: at once); replicas: how many of the new version's have it (0: all)."""

    name: str
    behaviour: Mapping[str, Any]
    since: int = 0
    replicas: int = 0


@dataclass(frozen=True)
class Story:
    """A release and what came before it. fault: of the new version, None for a healthy one; before: seconds,
    and what differs meanwhile from the service's usual behaviour, one after the other; usual: what differs
    for both versions until the release has ended."""

    name: str
    fault: Fault | None = None
    before: tuple[tuple[float, Mapping[str, Any]], ...] = ()
    usual: Mapping[str, Any] = field(default_factory=dict)


FAULTS = (
    Fault("errors to 5%", {"errors": 0.05}),
    Fault("latency twice", {"latency_ms": 40}),
    Fault("5% of requests stuck for 3 s", {"tail": {"share": 0.05, "ms": 3000}}),
    Fault("every request fails", {"errors": 1.0}),
    Fault("errors to 8% from weight 50 on", {"errors": 0.08}, since=50),
    Fault("errors to 8% from weight 100 on", {"errors": 0.08}, since=100),
)

# The past is 12 minutes here (360 looks of 2 s) where it is an hour and a half in a real policy, so that an
# incident of a quarter of an hour is one of two minutes. It is over for a minute when the next release comes.
INCIDENT = ((120.0, {"errors": 0.05}), (60.0, {}))
STORIES = (
    Story("a dead version", Fault("a dead version: every request fails on three replicas", {"errors": 1.0})),
    Story(
        "one of three replicas",
        Fault("one of three replicas fails every request", {"errors": 1.0}, replicas=1),
    ),
    Story(
        "bad after an incident",
        Fault("errors to 5%, after an incident of stable's", {"errors": 0.05}),
        before=INCIDENT,
    ),
    Story("healthy after the same incident"),
    Story(
        "healthy, both rates rose to 5% a minute before",
        before=((60.0, {"errors": 0.05}),),
        usual={"errors": 0.05},
    ),
)

Release = Fault | Story | None
"""What is released: a fault, a story, or None for a healthy version."""


@dataclass(frozen=True)
class Outcome:
    """How one release went.

    fault: "" for a healthy one; end: promoted, rolled back, or undecided; seconds: from the first weight to
    the end, of a bad one from its fault's beginning (a rollback before that is one of a healthy release);
    counted: version to requests and failures, as canaryd has them; inexact: pods whose counts Prometheus has
    otherwise.
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

    Both sorts are dealt out evenly, in turns within a service; each round of faults begins one further on, so
    that a service does not meet the same few again and again.
    """
    count = len(services)
    faults = [FAULTS[(i + i // count) % len(FAULTS)] for i in range(bad)]
    releases: dict[str, list[Fault | None]] = {}
    for place, service in enumerate(services):
        good: list[Fault | None] = [None] * len(range(place, healthy, count))
        # from the other end: few releases spread over many services
        worse = faults[count - 1 - place :: count]
        turns = (good, worse) if place % 2 == 0 else (worse, good)
        releases[service] = [
            fault for i in range(max(len(good), len(worse))) for turn in turns for fault in turn[i : i + 1]
        ]
    return releases


def planned(services: Sequence[str], healthy: int, bad: int, stories: bool) -> dict[str, list[Release]]:
    """Each service's releases in turn, those of the stories among them."""
    releases: dict[str, list[Release]] = {
        name: list(todo) for name, todo in plan(services, healthy, bad).items() if todo
    }
    return releases | ({STORIED: list(STORIES)} if stories else {})


def fault_of(release: Release) -> Fault | None:
    return release.fault if isinstance(release, Story) else release


def name_of(release: Release) -> str:
    return release.name if release else "healthy"


def world_of(service: str) -> tuple[str, dict[str, Any]]:
    """Its trouble in words, and how each of its versions answers."""
    return STORIED_WORLD if service == STORIED else WORLDS[service]


def rate_of(service: str, rate: float) -> float:
    """Requests/s; rate: of the services without stories."""
    return STORIED_RATE if service == STORIED else rate


def replicas_of(service: str) -> int:
    return STORIED_REPLICAS if service == STORIED else REPLICAS


def a_policy(service: str) -> dict[str, Any]:
    longer = 2 if service == STORIED else 1  # half as many requests/s need twice as long
    stages = [
        {"weight": weight, "minimum": "10s", "deadline": f"{longer * deadline}s"}
        for weight, deadline in DEADLINES.items()
    ]
    return {
        "service": {"name": service, "namespace": "production", "selector": {"app": service}},
        "route": {"virtualService": service},
        "stages": [*stages, {"weight": 100, "minimum": "30s", "deadline": "60s"}],
        "analysis": {"interval": f"{INTERVAL}s", "warmup": "2s", "noDataFor": "15s"},
    }


def deployment(service: str, version: str) -> Document:
    renamed = json.dumps(front_end(version, replicas=replicas_of(service))).replace("front-end", service)
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

    def service(self, name: str, releases: Sequence[Release]) -> None:
        """One after the other; Stopped when the run ends before them. A fault that waits for a weight which
        the release never had was no bad release, and is tried once more at the end."""
        releaser = Releaser(self, name)
        todo = list(releases)
        for place, release in enumerate(todo):  # which may grow meanwhile
            outcome = releaser.release(release)
            if fault_of(release) and not outcome.fault and place < len(releases):
                todo.append(release)
            with self._saying:
                self.outcomes.append(outcome)
                print(self._line(outcome), flush=True)

    def _line(self, outcome: Outcome) -> str:
        counts = ", ".join(
            f"{version} {failures} of {requests:,}"
            for version, (requests, failures) in outcome.counted.items()
        )
        right = outcome.end == ("rolled back" if outcome.fault else "promoted")
        return (
            f"{time.monotonic() - self.began:5.0f} s  "
            f"{outcome.service:9}{outcome.version:5}{outcome.fault or 'healthy':32} "
            f"{'' if right else '! '}{outcome.end} "
            f"at {outcome.weight}% after {outcome.seconds:.0f} s; failed: "
            f"{counts}{'; INEXACT' if outcome.inexact else ''}; {outcome.reason}"
        )

    def pause(self, seconds: float) -> None:
        if self.stopped.wait(seconds):
            raise Stopped
        if not self.daemon.alive:
            raise AssertionError(f"canaryd ended:\n{self.daemon.log[-2000:]}")


class Releaser:
    """One service's: which version is stable, and which comes next."""

    def __init__(self, run: Run, service: str) -> None:
        self.run, self.name = run, service
        self.usual = world_of(service)[1]
        self.api = Api(run.world.kubeconfig, "production")
        self.stable, self.number = "v1", 1

    def behave(self, version: str, fault: Fault | None = None) -> None:
        self.run.world.behaviour(
            f"{self.name}/{version}", **{**self.usual, **(fault.behaviour if fault else {})}
        )

    def release(self, release: Release) -> Outcome:
        """A story begins with what came before it, and leaves the service as it was."""
        if not isinstance(release, Story):
            return self.of_fault(release)
        for seconds, differs in release.before:
            self.usual = {**world_of(self.name)[1], **differs}
            self.behave(self.stable)
            self.run.pause(seconds)
        self.usual = {**world_of(self.name)[1], **release.usual}
        self.behave(self.stable)
        outcome = self.of_fault(release.fault)
        self.usual = world_of(self.name)[1]
        self.behave(self.stable)
        return outcome

    def of_fault(self, fault: Fault | None) -> Outcome:
        self.number += 1
        version = f"v{self.number}"
        at_once = fault if fault and not fault.since and not fault.replicas else None
        self.behave(version, at_once)
        self.api.request(
            "POST", "/apis/apps/v1/namespaces/production/deployments", deployment(self.name, version)
        )
        if fault and fault.replicas:
            self.break_some(version, fault)
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
        self.api.request(
            "DELETE",
            f"/apis/apps/v1/namespaces/production/deployments/{self.name}-{gone}?propagationPolicy=Background",
        )
        if end == "promoted":
            self.stable = version
            self.behave(version)
        return Outcome(
            self.name,
            version,
            fault.name if fault and harmed else "",
            end,
            status.get("ended", time.time()) - since,
            weight,
            status.get("reason", ""),
            counted,
            inexact,
        )

    def break_some(self, version: str, fault: Fault) -> None:
        """Before they have traffic: canaryd waits until all of them are available."""
        prefix = f"{self.name}-{version}-"

        def pods() -> list[str]:
            return sorted(pod for pod in self.run.world.replicas() if pod.startswith(prefix))

        eventually(f"the mesh knows {prefix}*", lambda: len(pods()) == replicas_of(self.name), 60)
        for pod in pods()[: fault.replicas]:
            self.run.world.behaviour(pod, **{**self.usual, **fault.behaviour})

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
            if record and (
                status.get("phase") in ("Succeeded", "RolledBack", "Superseded") or time.monotonic() > until
            ):
                return record, fault_began
            if time.monotonic() > until:
                raise AssertionError(
                    f"{self.name} {version}: no rollout after {PATIENCE:.0f} "
                    f"s:\n{self.run.daemon.log[-2000:]}"
                )

    def ended(self, version: str, seconds: float) -> None:
        eventually(
            f"{self.name} {version} is taken back",
            lambda: (self.record(version) or {}).get("status", {}).get("ended"),
            seconds,
        )

    def record(self, version: str) -> Document | None:
        where = "/apis/canaryd.dev/v1alpha1/namespaces/production/canaryrollouts"
        where += f"?labelSelector=canaryd.dev/service%3D{self.name}"
        return next(
            (item for item in self.api.request("GET", where)["items"] if item["spec"]["version"] == version),
            None,
        )

    def counts(self, version: str, status: Document) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
        """By version, as canaryd counted them; and the pods of which Prometheus says otherwise."""
        mine = {
            pod: (counts["requests"], counts["failures"])
            for pod, counts in status.get("counted", {}).items()
            if counts["requests"]
        }
        versions = {self.stable: f"{self.name}-{self.stable}-", version: f"{self.name}-{version}-"}
        theirs = self.stored(
            floor(status["began"]), status.get("countedTo", floor(status["began"])), tuple(versions.values())
        )
        inexact = {
            pod: f"canaryd {mine.get(pod)}, Prometheus {theirs.get(pod)}"
            for pod in mine.keys() | theirs.keys()
            if mine.get(pod) != theirs.get(pod)
        }
        sums = {}
        for name, prefix in versions.items():
            of_version = [counts for pod, counts in mine.items() if pod.startswith(prefix)]
            sums[name] = (
                sum(requests for requests, _ in of_version),
                sum(failures for _, failures in of_version),
            )
        return sums, inexact

    def stored(self, start: int, end: int, prefixes: tuple[str, ...]) -> dict[str, tuple[int, int]]:
        """Pod to requests and failures in (start, end], the difference of its counters' last raw samples; no
        pod restarts here."""
        counted: dict[str, list[int]] = {}
        for at, sign in ((end, 1), (start, -1)):
            selector = (
                f'istio_requests_total{{reporter="destination", destination_service_name="{self.name}"}}'
            )
            for series in self.run.world.query(f"last_over_time({selector}[{end - start + 60}s] @ {at})"):
                pod, code, value = (
                    series["metric"]["pod"],
                    series["metric"]["response_code"],
                    int(series["value"][1]),
                )
                both = counted.setdefault(pod, [0, 0])
                both[0] += sign * value
                both[1] += sign * value if code.startswith("5") else 0
        return {
            pod: (both[0], both[1]) for pod, both in counted.items() if pod.startswith(prefixes) and both[0]
        }


def weight_before_the_end(status: Document) -> int:
    """The last weight above 0 that the record tells of: where the decision fell."""
    return next((decision["weight"] for decision in reversed(status["decisions"]) if decision["weight"]), 0)


def set_up(world: World, daemon: Canaryd, services: Sequence[str]) -> None:
    """Every service with its first version behind the gateway, known to the daemon."""
    world.apply(OBJECTS / "gateway.yaml")
    for service in services:
        world.behaviour(f"{service}/v1", **world_of(service)[1])
        for document in objects(service):
            world.apply(document)
    wanted = sum(replicas_of(service) for service in services)
    eventually("all of v1 serve", lambda: len(world.serving().get("v1", [])) == wanted, 60)
    daemon.start()
    eventually(
        "canaryd knows every service", lambda: len(daemon.logged("service.first_seen")) == len(services), 60
    )


def untold(world: World, seconds: float) -> dict[str, str]:
    """Pods of which Prometheus does not have what the application says it served, within `seconds` of the
    last request."""
    wanted = {
        pod: (counts["requests"], counts["failures"])
        for pod, counts in world.tally().items()
        if counts["requests"]
    }
    until = time.monotonic() + seconds
    while True:
        stored = {
            pod: (counts["requests"], counts["failures"]) for pod, counts in world.counted("2h").items()
        }
        wrong = {
            pod: f"served {served}, Prometheus {stored.get(pod)}"
            for pod, served in wanted.items()
            if stored.get(pod) != served
        }
        if not wrong or time.monotonic() > until:
            return wrong
        time.sleep(1)

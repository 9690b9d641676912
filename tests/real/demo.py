"""The use case's story on real parts: `make demo WORLD=real`.

Kubernetes, Istio's control plane, Envoys, Prometheus and Alertmanager start on this machine, the use case's
objects are applied, and canaryd runs beside them as a process of its own. Then a person applies front-end-v2,
which is good, and front-end-v3, which is not; nobody touches a route. Takes about a minute and a half.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.real.daemon import Canaryd, settings
from tests.real.world import Outage, PartsMissing, World, eventually

RATE = 100.0  # requests per second through the ingress
HEALTHY: dict[str, Any] = {"errors": 0.005, "latency_ms": 20, "sigma": 0.5}
BAD: dict[str, Any] = {**HEALTHY, "errors": 0.08}
ENDED = ("Succeeded", "RolledBack", "Superseded")
POLICY = """\
# The demo's own policy: the use case's ladder, with seconds where a real one has minutes.
service: {name: front-end, namespace: production, selector: {app: front-end}}
route: {virtualService: sockshop}
stages:
  - {weight: 10, minimum: 6s, deadline: 15s}
  - {weight: 25, minimum: 4s, deadline: 10s}
  - {weight: 50, minimum: 4s, deadline: 10s}
  - {weight: 100, minimum: 4s, deadline: 8s}
analysis:
  interval: 1s
  warmup: 2s
  minimumRequests: 50
hooks:
  - {on: [rolled_back], notify: oncall}
"""


class Story:
    def __init__(self, world: World, daemon: Canaryd, console: Console) -> None:
        self.world, self.daemon, self.console = world, daemon, console
        self.began = time.monotonic()

    def say(self, text: str, style: str = "") -> None:
        self.console.print(
            f"{time.monotonic() - self.began:5.0f} s  {text}",
            style=style,
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def rollout(self, version: str) -> dict[str, Any]:
        """The CanaryRollout of this version; LookupError while there is none."""
        found = [
            item for item in self.world.get("canaryrollouts")["items"] if item["spec"]["version"] == version
        ]
        if not found:
            raise LookupError(f"no rollout of {version} yet")
        return dict(found[-1])

    def follow(self, version: str, seconds: float) -> dict[str, Any]:
        """Prints every change until the rollout has ended; AssertionError after `seconds`."""
        rollout = eventually(f"a rollout of {version}", lambda: self.rollout(version))
        shown, until = "", time.monotonic() + seconds
        while True:
            status = rollout.get("status", {})
            seen = status.get("shown", {})
            envoy = ", ".join(
                f"{subset} {weight}%" for subset, weight in sorted(self.world.envoy_weights().items())
            )
            line = (
                f"{status.get('phase', '-'):16} stage {seen.get('stage', '-'):5} verdict "
                f"{seen.get('verdict', '-'):10} Envoy: {envoy}"
            )
            if line != shown:
                shown = line
                self.say(line)
            if status.get("phase") in ENDED:
                return rollout
            assert time.monotonic() < until, (
                f"{rollout['metadata']['name']} is still {status.get('phase')}:\n{self.daemon.log[-2000:]}"
            )
            time.sleep(0.3)
            rollout = self.rollout(version)

    def release(self, version: str, what: str, behaviour: dict[str, Any], ending: str) -> None:
        self.world.behaviour(version, **behaviour)
        self.say(f"kubectl apply -f front-end-{version}.yaml   ({what})", "bold")
        self.world.deploy(version)
        rollout = self.follow(version, seconds=120)
        route = ", ".join(f"{subset} {weight}%" for subset, weight in self.world.weights().items())
        self.say(
            f"the VirtualService sockshop sends: {route}",
            "green" if rollout["status"]["phase"] == ending else "red",
        )
        explanation = self.daemon.cli("explain", "--namespace", "production", rollout["metadata"]["name"])
        self.console.print(explanation, highlight=False, markup=False, soft_wrap=True)
        assert rollout["status"]["phase"] == ending, f"{version} should have ended {ending}"


def tell(folder: Path, console: Console) -> None:
    with contextlib.ExitStack() as stack:
        with console.status("10 s"):
            console.print(
                "starting etcd, kube-apiserver, controllers, kwok, istiod, three Envoys, Prometheus, "
                "Alertmanager"
            )
            world = stack.enter_context(World.start(folder))
            world.reset()
        world.behaviour("v1", **HEALTHY)
        daemon = Canaryd(
            folder / "canaryd", world.kubeconfig, config=settings(world), policies={"front-end": POLICY}
        )
        story = Story(world, daemon, console)
        story.say(f"front-end-v1 serves {RATE:.0f} requests/s through the ingress {world.ingress}")
        story.say(f"KUBECONFIG={world.kubeconfig}   Prometheus {world.prometheus}   log {daemon.log_file}")
        with world.load(RATE) as requests:
            try:
                daemon.start()
                daemon.wait_for("service.first_seen")
                story.say("canaryd runs, and knows front-end-v1")
                time.sleep(3)
                story.release("v2", "a good version", HEALTHY, "Succeeded")
                story.release("v3", "fails 8% of its requests, stable 0.5%", BAD, "RolledBack")
                eventually("Alertmanager's word of the rollback", lambda: world.receiver.alerts)
                for alert in world.receiver.alerts:
                    story.say(
                        f"Alertmanager told: {json.dumps(alert['labels'])} {json.dumps(alert['annotations'])}"
                    )
                story.say(f"SIGTERM: canaryd ended in {daemon.term():.1f} s")
            finally:
                daemon.close()
        story.say(
            f"what users saw: {json.dumps(requests.result['status'])} by status, "
            f"{json.dumps(requests.result['version'])} by version"
        )


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(
        prog="make demo WORLD=real", description=(__doc__ or "").strip(), formatter_class=form
    ).parse_args()
    console = Console()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        with tempfile.TemporaryDirectory(prefix="canaryd-demo-") as folder:
            tell(Path(folder), console)
    except (PartsMissing, Outage, AssertionError) as error:
        console.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

"""canaryd as its user has it: a process of its own, with files, a kubeconfig and signals. Nothing of its
insides is imported."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.real.world import ROOT, World

Files = Mapping[str, Mapping[str, Any] | str]
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"a secret of the tests, 32 bytes.").decode()
ENDS_WITHIN = 10.0  # s after SIGTERM: twice what is promised, since here six others want the same two cores


def settings(world: World, **more: Any) -> dict[str, Any]:
    """A daemon's settings for these parts: second-by-second, with the notifiers `oncall` (Alertmanager) and
    `audit` (receiver's /audit).

    more: top-level keys that replace these.
    """
    return {
        "prometheus": {"url": world.prometheus, "scrapeInterval": "1s"},
        "kubernetes": {"settle": "2s"},
        "http": {"port": free_port()},
        "log": {"format": "json"},
        "beat": "1s",
        "notifiers": {
            "oncall": {"alertmanager": {"url": world.alertmanager}},
            "audit": {"webhook": {"url": f"{world.receiver.url}/audit", "secret": WEBHOOK_SECRET}},
        },
        **more,
    }


def free_port() -> int:
    """One that is still free when a daemon is started again: below those that the kernel gives to any who
    asks for one (32768 and more), and those of the real parts (world.SLOTS)."""
    while True:
        port = random.SystemRandom().randrange(9000, 16000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def command() -> list[str]:
    """The installed console script beside this interpreter, else the module."""
    script = shutil.which("canaryd", path=str(Path(sys.executable).parent))
    return [script] if script else [sys.executable, "-m", "canaryd.cli"]


def write(path: Path, document: Mapping[str, Any] | str) -> Path:
    """YAML text as it is; a mapping as JSON, which is YAML too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document, indent=2) + "\n")
    return path


class Canaryd:
    """`folder` holds canaryd.yaml, policies/, and the log of every life of the daemon.

    config: the daemon's settings (see `settings`); policies: file name to policy; either as YAML text or as a
    mapping.
    arguments: more of `canaryd run`'s.
    """

    def __init__(
        self,
        folder: Path,
        kubeconfig: Path,
        *,
        config: Mapping[str, Any] | str,
        policies: Files | None = None,
        arguments: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.kubeconfig = folder, kubeconfig
        self.config = write(folder / "canaryd.yaml", config)
        self.policies = folder / "policies"
        self.policies.mkdir(exist_ok=True)
        for name, policy in (policies or {}).items():
            self.policy(name, policy)
        self.log_file = folder / "canaryd.log"
        self.env = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "OPENBLAS_NUM_THREADS": "1",
            "NO_COLOR": "1",
            **(env or {}),
        }
        self.arguments = ["--config", str(self.config), "--policies", str(self.policies), *arguments]
        port = config.get("http", {}).get("port", 8080) if isinstance(config, Mapping) else 8080
        self.url = f"http://127.0.0.1:{port}"  # /livez /readyz /metrics
        self.process: subprocess.Popen[bytes] | None = None

    def policy(self, name: str, policy: Mapping[str, Any] | str) -> Path:
        """Writes or replaces one policy file, as an editor would."""
        path = self.policies / (name if name.endswith(".yaml") else f"{name}.yaml")
        return write(path.with_suffix(".new"), policy).rename(path)

    def start(self) -> Canaryd:
        assert not self.alive, "already running"
        with self.log_file.open("ab") as log:
            # it must not outlive a test that is killed
            guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
            self.process = subprocess.Popen(
                [*guard, *command(), "run", *self.arguments],
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        return self

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def logged(self, event: str = "") -> list[dict[str, Any]]:
        """The log's JSON lines, or those of one event; lines that are not JSON are left out."""
        found = []
        for line in self.log.splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                if not event or entry.get("event") == event:
                    found.append(entry)
        return found

    def wait_for(self, event: str, seconds: float = 30) -> None:
        """Until its log has this event; AssertionError with the end of the log if it ends or takes longer."""
        until = time.monotonic() + seconds
        while event not in self.log:
            assert self.alive, f"canaryd ended before {event}:\n{self.log[-2000:]}"
            assert time.monotonic() < until, (
                f"no {event} in canaryd's log within {seconds:.0f} s:\n{self.log[-2000:]}"
            )
            time.sleep(0.1)

    def memory(self) -> float:
        """Resident, in MB (10^6 bytes)."""
        assert self.process
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def term(self, seconds: float = 20) -> float:
        """SIGTERM; seconds until it had ended. AssertionError if it does not, with the end of its log."""
        assert self.process
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(
                f"canaryd did not end within {seconds} s of SIGTERM:\n{self.log[-2000:]}"
            ) from None
        return time.monotonic() - began

    def kill9(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def restart(self) -> float:
        """SIGTERM and a new start; seconds the end took."""
        took = self.term()
        self.start()
        return took

    def close(self) -> None:
        if self.alive:
            self.kill9()

    def cli(self, *args: str, check: bool = True, seconds: float = 120) -> str:
        """What `canaryd ARGS` prints with this kubeconfig; AssertionError with its words if it fails and
        `check`."""
        done = self.run(*args, seconds=seconds)
        if check:
            assert done.returncode == 0, (
                f"canaryd {' '.join(args)} ended with {done.returncode}: {done.stderr or done.stdout}"
            )
        return done.stdout

    def run(self, *args: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command(), *args],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def status(self, *args: str) -> Any:
        """`canaryd status -o json`, parsed."""
        return json.loads(self.cli("status", "-o", "json", *args))

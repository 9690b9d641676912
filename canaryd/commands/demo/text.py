"""How each release of the demo ended, in three lines; and what can be done with a world that is kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.request import getproxies

from canaryd.commands.demo.served_traffic import Served, hurt_text
from canaryd.domain.formatting import lasting
from canaryd.domain.rollout import Rollout
from canaryd.report.phase_summary import describe


def ending(
    rollout: Rollout, now: float, served: Mapping[str, Served], why: str, as_planned: bool
) -> Sequence[str]:
    """What came of a release, what its users met, and where to read why.

    now: Unix seconds; served: by version, since the world began; why: where the explanation is; as_planned:
    whether a scenario says that it ends so.
    """
    took = lasting((rollout.ended or now) - rollout.began)
    expected = ", as expected" if as_planned else ""
    hurt, usual = hurt_text(
        served.get(rollout.entrance.canary, Served()), served.get(rollout.entrance.stable, Served())
    )
    return (
        f"{rollout.entrance.canary}: {describe(rollout)}, after {took}{expected}",
        f"users hurt: {hurt}; on {rollout.entrance.stable} about {usual}",
        f"why, in numbers: {why}",
    )


def explanation_file(rollout: Rollout, folder: Path) -> Path:
    """Where the demo writes what `canaryd explain` says of a release: a short name, since a line shows it."""
    return folder / f"{rollout.entrance.canary}.txt"


def explained_where(rollout: Rollout, folder: Path, keep: bool) -> str:
    """Where to read why a release ended so. keep: whether the world stays up, so that `explain` answers."""
    if keep:
        return f"canaryd explain {rollout.name}"
    return f"{explanation_file(rollout, folder)} (by canaryd explain)"


def kept(kubeconfig: Path, settings: Path) -> Sequence[str]:
    """How to use the world from another terminal."""
    proxied = ("  export NO_PROXY=127.0.0.1",) if getproxies().keys() - {"no"} else ()
    return (
        "The world stays up until Ctrl-C. In another terminal:",
        "",
        f"  export KUBECONFIG={kubeconfig}",
        f"  export CANARYD_CONFIG={settings}",
        *proxied,
        "",
        "  canaryd demo release good    # applies the next version, a healthy one",
        "  canaryd demo release bad     # one that fails 5% of its requests",
        "  canaryd status --watch       # and hold, resume, promote, abort, pause, retry",
        "  canaryd explain front-end    # why, in numbers",
        "  canaryd check                # whether this cluster has what canaryd needs",
        "",
        f"The daemon's settings, policy and log are in {settings.parent}.",
    )

"""The control plane: is Istio there, which version, which versions of its API; and whether clocks agree."""

import re
from collections.abc import Iterator

from canaryd.commands.check.finding import Finding, ok, problem, unknown, warning
from canaryd.domain.check_facts import (
    CONTROL_PLANE,
    Facts,
    Object,
    annotations_of,
    labels_of,
    name_of,
    namespace_of,
    spec_of,
    template_of,
)

NETWORKING, GATEWAY_API = "networking.istio.io", "gateway.networking.k8s.io"
TESTED = (1, 31)  # what tests/real runs on
MAINTAINED = (1, 22)  # since then networking.istio.io/v1 is there, and canaryd needs nothing newer
TELEMETRY_V2 = (1, 5)  # before it Mixer counted, with other labels
MOST_SKEW = 5.0  # s between two clocks: a third of a look of 15 s, and more than NTP ever leaves

Version = tuple[int, int]


def check(facts: Facts) -> Iterator[Finding]:
    """The findings on istiod, Istio's API and the API server's clock."""
    yield from _control_plane(facts)
    yield from _api(facts)
    yield from _clock(facts)


def control_planes(facts: Facts) -> list[Object]:
    """The Deployments of istiod."""
    return list(facts.of(CONTROL_PLANE).items)


def revision(deployment: Object) -> str:
    """The revision of Istio that a Deployment of istiod is."""
    return labels_of(deployment).get("istio.io/rev") or "default"


def version_of(deployment: Object) -> str:
    """The tag of its image, such as `1.27.1`; "" where there is none."""
    containers = spec_of(template_of(deployment)).get("containers") or []
    chosen = next(
        (container for container in containers if container.get("name") == "discovery"),
        containers[0] if containers else {},
    )
    return str(chosen.get("image") or "").rsplit("/", 1)[-1].partition("@")[0].partition(":")[2]


def _control_plane(facts: Facts) -> Iterator[Finding]:
    if facts.of(CONTROL_PLANE).problem:
        yield unknown(
            "istio.istiod",
            "istiod",
            f"its Deployment cannot be looked for: {facts.of(CONTROL_PLANE).problem}",
        )
        return
    found = control_planes(facts)
    if not found and NETWORKING in facts.groups:
        yield warning(
            "istio.istiod",
            "istiod",
            "no Deployment with the label app=istiod in this cluster",
            "istiod here, or outside as an external control plane",
            "kubectl get deployments -A -l app=istiod",
        )
    for deployment in found:
        yield from _istiod(deployment)


def _istiod(istiod: Object) -> Iterator[Finding]:
    where = f"{name_of(istiod)} in {namespace_of(istiod)}"
    version, by = version_of(istiod), _installed_by(istiod)
    installed = f"version {version or 'unknown (its image has no tag)'}, revision {revision(istiod)}{by}"
    number = _number(version)
    if not (istiod.get("status") or {}).get("availableReplicas"):
        yield problem(
            "istio.istiod",
            where,
            f"{installed}; no replica of it is available",
            "at least one, or no route changes",
            f"kubectl -n {namespace_of(istiod)} describe deployment {name_of(istiod)}",
        )
        return
    tested = f"{TESTED[0]}.{TESTED[1]}"
    if number is None:
        yield unknown("istio.istiod", where, installed, f"a version; canaryd is tested with Istio {tested}")
    elif number < TELEMETRY_V2:
        yield problem(
            "istio.istiod",
            where,
            installed,
            f"Istio 1.5 or newer (before, Mixer counts); canaryd is tested with {tested}",
            "https://istio.io/latest/docs/setup/upgrade/",
        )
    elif number < MAINTAINED:
        yield warning(
            "istio.istiod",
            where,
            installed,
            f"Istio 1.22 or newer; canaryd is tested with {tested}, older ones may well do",
            "https://istio.io/latest/docs/setup/upgrade/",
        )
    else:
        yield ok("istio.istiod", where, f"{installed}; canaryd is tested with {tested}")


def _installed_by(istiod: Object) -> str:
    if release := annotations_of(istiod).get("meta.helm.sh/release-name"):
        return f", by Helm ({release})"
    if owner := labels_of(istiod).get("install.operator.istio.io/owning-resource"):
        return f", by istioctl or operator ({owner})"
    return ""


def _number(version: str) -> Version | None:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def _api(facts: Facts) -> Iterator[Finding]:
    versions = facts.groups.get(NETWORKING)
    if versions is None:
        yield problem(
            "istio.crds",
            "Istio's API",
            f"the API server has no {NETWORKING}",
            "its CRDs: canaryd steers a VirtualService",
            "istioctl install   # or: helm install istio-base istio/base -n istio-system --create-namespace",
        )
    else:
        yield ok("istio.crds", "Istio's API", f"{NETWORKING} {', '.join(versions)}")
    gateway = facts.groups.get(GATEWAY_API)
    yield ok(
        "istio.gatewayApi",
        "Gateway API",
        f"{GATEWAY_API} {', '.join(gateway)}"
        if gateway
        else "not installed; only routes of the Gateway API would need it",
    )


def _clock(facts: Facts) -> Iterator[Finding]:
    yield from skew("istio.clock", "API server's clock", facts.server_clock, facts.here)


def skew(check: str, about: str, clock: float | None, here: float) -> Iterator[Finding]:
    """How far a clock is from this machine's."""
    if clock is None:
        yield unknown(check, about, "it does not say the time")
        return
    off = clock - here
    text = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's"
    if abs(off) > MOST_SKEW:
        yield warning(
            check,
            about,
            text,
            f"at most {MOST_SKEW:.0f} s: looks are cut by these clocks",
            "timedatectl status   # here, and on the nodes",
        )
    else:
        yield ok(check, about, "agrees with this machine's")

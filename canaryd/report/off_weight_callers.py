"""Who sends the requests that do not follow the weight, and what to do about it: in words, from counts by
caller. Nothing here decides.

A VirtualService that is bound to a gateway alone steers what comes through that gateway. Calls from inside
the mesh then go to the pods of all versions alike, by the Service; so do calls of pods without a sidecar,
whatever the VirtualService is bound to.
"""

from collections.abc import Sequence

from canaryd.domain.counts import Source
from canaryd.judge.sample_ratio import LONG, beyond, is_telling

MOST_NAMED = 3  # callers of each kind
CERTAIN = 3.0  # standard errors; that some do not follow is known already, and here it is which
NAMELESS = ("", "unknown")  # what telemetry calls a caller that it cannot tell


def describe(sources: Sequence[Source], weight: float, canary: str, service: str, unsteered: str = "") -> str:
    """Which callers' requests follow the weight, which do not, and what to do. Empty where nothing can be
    told of any.

    canary: its version; unsteered: why calls from inside the mesh are not steered
    (`RouteState.unrouted_reason`), if they are not.
    """
    off = [source for source in sources if _is_off(source, weight)]
    if not off:
        return unsteered
    follow = [
        source
        for source in sources
        if source not in off and is_telling(source.stable + source.canary, weight)
    ]
    sentence = f"requests of {_named(off, canary)} do not follow it"
    if follow:
        sentence = (
            f"requests of {_named(follow, canary)} follow the weight, those of {_named(off, canary)} do not"
        )
    return ". ".join((sentence, *_advice(off, service, unsteered)))


def _is_off(source: Source, weight: float) -> bool:
    of = source.stable + source.canary
    return of > 0 and beyond(source.canary, of, weight, LONG.apart, CERTAIN)


def _named(sources: Sequence[Source], canary: str) -> str:
    """`istio-ingressgateway in istio-system (10.2% of 5,000 went to v2)`."""
    names = []
    for source in sources[:MOST_NAMED]:
        of = source.stable + source.canary
        who = (
            "callers without a name"
            if source.workload in NAMELESS
            else source.workload + (f" in {source.namespace}" if source.namespace else "")
        )
        names.append(f"{who} ({100 * source.canary / of:.3g}% of {of:,} went to {canary})")
    if more := len(sources) - MOST_NAMED:
        names += [f"{more} more"] if more > 0 else []
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _advice(off: Sequence[Source], service: str, unsteered: str) -> list[str]:
    advice = [unsteered] if unsteered else []
    named = [source for source in off if source.workload not in NAMELESS]
    if named and not unsteered:
        advice.append(
            f"Is the route visible to them (a VirtualService's spec.exportTo), is {service} among its hosts "
            "as they call it, and does no other route take their requests first?"
        )
    if len(named) < len(off):
        advice.append(
            "Callers without a name are as a rule pods without a sidecar, which no route steers: give them "
            "one, or let them call through the gateway"
        )
    return advice

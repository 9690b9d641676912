"""The ways in which people write the host of a Service, right and wrong: for a test of how hosts are read,
and for one that asks istiod the same."""

from __future__ import annotations

from itertools import product

TAILS = (  # what follows the Service's name
    "",
    ".{namespace}",
    ".{namespace}.svc",
    ".{namespace}.svc.cluster",
    ".{namespace}.svc.cluster.local",
    ".{namespace}.svc.other.domain",
    ".{namespace}.cluster.local",
    ".elsewhere",
    ".elsewhere.svc.cluster.local",
    ".example",
)
CASES = (str.lower, str.upper, str.capitalize)
ENDS = ("", ".")
RIGHT = ("", ".{namespace}.svc.cluster.local")  # tails of a host that is the Service's, in lower case
OTHER = ("10.0.3.4", "::1", "fe80::1", "*", "*.example", "*.cluster.local.", "")


def spellings(name: str, namespace: str) -> dict[str, bool]:
    """Host -> whether it is the one of this Service in a document of its namespace, in a cluster whose domain
    is `cluster.local`."""
    found = dict.fromkeys(OTHER, False)
    for tail, case, end in product(TAILS, CASES, ENDS):
        host = case(name + tail.format(namespace=namespace)) + end
        found[host] = case is str.lower and tail in RIGHT and not end
    return found

"""What a record wants of the route, what stands there instead, and the write that makes the two the same.

Decides nothing about a rollout's life: the reconciler makes signals of what is said here.
"""

from collections.abc import Sequence

from canaryd.domain.ports import Conflict, RouteView, Traffic
from canaryd.domain.rollout import Phase, Rollout, RouteLists, together
from canaryd.routing import route_lists, user_cookies
from canaryd.routing.managed_routes import steered

LIVE = (Phase.PROGRESSING, Phase.AWAITING_APPROVAL, Phase.AWAITING_GATE, Phase.HELD)
STEERED = (*LIVE, Phase.PROMOTING)  # when the canary's share of the route is canaryd's alone
GOING_BACK = (Phase.ROLLING_BACK, Phase.GIVING_WAY)
_TROUBLE = "; the route should be "
_UNREAD = "; nothing advances: "


def wanted(rollout: Rollout, view: RouteView | None = None) -> RouteLists:
    """The routes as the record wants them now. view: what stands there, of which added routes are copies.
    Raises routes.Refusal where one cannot be added."""
    if rollout.phase in (Phase.PROMOTING, Phase.SUCCEEDED):
        return route_lists.only(rollout.origin, rollout.canary_subset)
    if rollout.phase in STEERED and rollout.stage >= 0:
        mark = user_cookies.token(rollout.template, rollout.attempt)
        return route_lists.staged(
            rollout.policy, rollout.stage, view, rollout.origin, rollout.canary_subset, mark
        )
    return route_lists.split(rollout.origin, rollout.canary_subset, rollout.weight)


def due(rollout: Rollout, view: RouteView) -> RouteLists:
    """What is to be written. On the way back from what is there: whichever routes have been renamed, added or
    taken out meanwhile, none may go on sending users to a version that was given up."""
    if rollout.phase in GOING_BACK:
        return route_lists.without(view.lists, rollout.origin, rollout.canary_subset)
    return wanted(rollout, view)


def is_taken_away(rollout: Rollout) -> bool:
    """Whether the canary is to have less than it has: on a way back, and at a step back."""
    return rollout.phase in GOING_BACK or (rollout.span is not None and rollout.weight < rollout.span.weight)


def order(rollout: Rollout) -> Sequence[int]:
    """The places of a bracket's services in which their routes are written. A new version may need the new
    versions of what it calls, and these still serve old callers: so weight is given to who is called first
    and to the entrance last, and taken away the other way round."""
    places = range(len(rollout.keys))
    return places if is_taken_away(rollout) else places[::-1]


def left(rollout: Rollout) -> RouteLists:
    """The routes as canaryd last left them."""
    return rollout.confirmed if rollout.confirmed is not None else rollout.origin


def drift(rollout: Rollout, view: RouteView | None, problem: str) -> str:
    """How the route is neither as canaryd left it nor as it is wanted, so that someone else changed it; "" if
    it is."""
    found = view.lists if view is not None else None
    if found is not None and (route_lists.same(found, left(rollout)) or _is_wanted(rollout, view, found)):
        return ""
    if found is not None and steered(found).keys() != steered(left(rollout)).keys():
        return (
            f"the routes to steer are {', '.join(steered(found)) or 'none'}, and canaryd had left "
            f"{', '.join(steered(left(rollout)))}"
        )
    if view is not None and view.displaced:
        one = len(view.displaced) == 1
        return (
            f"{together(view.displaced)}, which canaryd added, {'stands' if one else 'stand'} no longer just "
            f"before the route whose requests {'it takes' if one else 'they take'}"
        )
    return (
        problem
        or f"the route is {route_lists.described(found or {})}, and canaryd had left it "
        f"{route_lists.described(left(rollout))}"
    )


def is_unnoted(rollout: Rollout, view: RouteView | None) -> bool:
    """Whether what is wanted stands there, and is not on record as confirmed: a crash, or someone's write to
    the record, came between. Were something else wanted now, it would be taken for someone's edit."""
    found = view.lists if view is not None else None
    return (
        found is not None
        and rollout.stage >= 0
        and not route_lists.same(found, left(rollout))
        and _is_wanted(rollout, view, found)
    )


def _is_wanted(rollout: Rollout, view: RouteView | None, found: RouteLists) -> bool:
    try:
        return route_lists.same(found, wanted(rollout, view))
    except route_lists.Refusal:
        return False  # what cannot be made is not there


def is_restorable(rollout: Rollout, view: RouteView | None) -> bool:
    """Whether the policy has edits put back, and the routes to put back are there: no more, no fewer, by
    their names."""
    return (
        rollout.policy.drift == "restore"
        and view is not None
        and steered(view.lists).keys() == rollout.origin.keys()
    )


def write(traffic: Traffic, rollout: Rollout, view: RouteView, lists: RouteLists) -> RouteView:
    """Writes the steered routes. Raises Conflict when someone changed them; what else changed in the object
    is no reason to wait."""
    try:
        return traffic.write(rollout.policy, view, lists)
    except Conflict:
        found = traffic.read(rollout.policy)
        if not route_lists.same(found.lists, view.lists):
            raise
        return traffic.write(rollout.policy, found, lists)


def troubled(rollout: Rollout, why: str) -> str:
    """The rollout's reason, and why its route cannot be made what it should be."""
    return f"{untroubled(rollout)}{_TROUBLE}{_should_be(rollout)}, but {why}"


def _should_be(rollout: Rollout) -> str:
    try:
        return route_lists.described(wanted(rollout))
    except route_lists.Refusal:
        return f"as stage {rollout.stage + 1} has it ({rollout.policy.stages[rollout.stage].said})"


def unread(reason: str, why: str) -> str:
    """A reason with why nothing advances, for want of what could not be read; without it where that is ""."""
    before, mark, trouble = reason.partition(_TROUBLE)
    before = before.partition(_UNREAD)[0]
    return f"{before}{f'{_UNREAD}{why}' if why else ''}{mark}{trouble}"


def is_troubled(rollout: Rollout) -> bool:
    """Whether its reason says more than why it came to where it is."""
    return _TROUBLE in rollout.reason or _UNREAD in rollout.reason


def untroubled(rollout: Rollout) -> str:
    """The rollout's reason as it was before that."""
    return rollout.reason.partition(_TROUBLE)[0]

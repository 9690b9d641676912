"""What a record wants of the route, what stands there instead, and the write that makes the two the same.

Decides nothing about a rollout's life: the reconciler makes signals of what is said here.
"""

from collections.abc import Sequence

from canaryd.domain.policy.policy import Policy
from canaryd.domain.ports import Conflict, RouteView, Traffic
from canaryd.domain.rollout import Phase, Rollout, RouteLists, ServiceRollout, together
from canaryd.routing import route_lists, user_cookies
from canaryd.routing.managed_routes import steered

LIVE = (Phase.PROGRESSING, Phase.AWAITING_APPROVAL, Phase.AWAITING_GATE, Phase.HELD)
STEERED = (*LIVE, Phase.PROMOTING)  # when the canary's share of the route is canaryd's alone
GOING_BACK = (Phase.ROLLING_BACK, Phase.GIVING_WAY)
_TROUBLE = "; the route should be "
_UNREAD = "; nothing advances: "


def wanted(rollout: Rollout, service: ServiceRollout, view: RouteView | None = None) -> RouteLists:
    """One service's http routes as the record wants them now. view: what stands there, of which added routes
    are copies. Raises route_lists.Refusal where one cannot be added."""
    route = service.route
    if rollout.phase in (Phase.PROMOTING, Phase.SUCCEEDED):
        return route_lists.only(route.origin, route.canary_subset)
    if rollout.phase in STEERED and rollout.stage >= 0:
        mark = user_cookies.token(service.template, rollout.attempt)
        return route_lists.staged(
            rollout.policy_of(service), rollout.stage, view, route.origin, route.canary_subset, mark
        )
    return route_lists.split(route.origin, route.canary_subset, rollout.weight)


def due(rollout: Rollout, service: ServiceRollout, view: RouteView) -> RouteLists:
    """What is to be written to one service's route. Raises route_lists.Refusal where it cannot be made.

    A way back begins from what is there: whichever http routes have been renamed, added or taken out
    meanwhile, none may go on sending users to a version that was given up.
    """
    if rollout.phase in GOING_BACK:
        return route_lists.without(view.lists, service.route.origin, service.route.canary_subset)
    return wanted(rollout, service, view)


def is_taken_away(rollout: Rollout) -> bool:
    """Whether the canary is to have less than it has: on a way back, and at a step back."""
    return rollout.phase in GOING_BACK or (rollout.span is not None and rollout.weight < rollout.span.weight)


def write_order(rollout: Rollout) -> Sequence[ServiceRollout]:
    """The services in the order in which their routes are written. A new version may need the new versions of
    what it calls, and these still serve old callers: so weight is given to who is called first and to the
    entrance last, and taken away the other way round."""
    return rollout.services if is_taken_away(rollout) else rollout.services[::-1]


def drift(rollout: Rollout, service: ServiceRollout, view: RouteView | None, problem: str) -> str:
    """How one service's route is neither as canaryd left it nor as it is wanted, so that someone else changed
    it; "" if it is either. problem: why there is no view."""
    found, left = view.lists if view is not None else None, service.route.last_left
    if found is not None and (route_lists.same(found, left) or _is_wanted(rollout, service, view, found)):
        return ""
    if found is not None and steered(found).keys() != steered(left).keys():
        return (
            f"the routes to steer are {', '.join(steered(found)) or 'none'}, and canaryd had left "
            f"{', '.join(steered(left))}"
        )
    if view is not None and view.displaced:
        is_single = len(view.displaced) == 1
        return (
            f"{together(view.displaced)}, which canaryd added, {'stands' if is_single else 'stand'} no "
            f"longer just before the route whose requests {'it takes' if is_single else 'they take'}"
        )
    return (
        problem
        or f"the route is {route_lists.described(found or {})}, and canaryd had left it "
        f"{route_lists.described(left)}"
    )


def is_unnoted(rollout: Rollout, service: ServiceRollout, view: RouteView | None) -> bool:
    """Whether what is wanted of one service's route stands there, and is not on record as confirmed: a crash,
    or someone's write to the record, came between. Were something else wanted now, it would be taken for
    someone's edit."""
    found = view.lists if view is not None else None
    return (
        found is not None
        and rollout.stage >= 0
        and not route_lists.same(found, service.route.last_left)
        and _is_wanted(rollout, service, view, found)
    )


def _is_wanted(rollout: Rollout, service: ServiceRollout, view: RouteView | None, found: RouteLists) -> bool:
    try:
        return route_lists.same(found, wanted(rollout, service, view))
    except route_lists.Refusal:
        return False  # what cannot be made is not there


def is_restorable(rollout: Rollout, service: ServiceRollout, view: RouteView | None) -> bool:
    """Whether the policy has edits put back, and the service's http routes to put back are there: no more, no
    fewer, by their names."""
    return (
        rollout.policy.drift == "restore"
        and view is not None
        and steered(view.lists).keys() == service.route.origin.keys()
    )


def write(traffic: Traffic, policy: Policy, view: RouteView, lists: RouteLists) -> RouteView:
    """Writes the steered http routes of one service; what stands there afterwards. policy: the service's own.

    Raises Conflict when someone changed them; what else changed in the object is no reason to wait.
    """
    try:
        return traffic.write(policy, view, lists)
    except Conflict:
        found = traffic.read(policy)
        if not route_lists.same(found.lists, view.lists):
            raise
        return traffic.write(policy, found, lists)


def troubled(rollout: Rollout, service: ServiceRollout, why: str) -> str:
    """The rollout's reason, and why one service's route cannot be made what it should be."""
    return f"{untroubled(rollout)}{_TROUBLE}{_should_be(rollout, service)}, but {why}"


def _should_be(rollout: Rollout, service: ServiceRollout) -> str:
    try:
        return route_lists.described(wanted(rollout, service))
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

"""Whether traffic follows the weight, in sentences, from the shares that a judge counted. Nothing here
decides."""

from canaryd.domain.assessment import ServedShare, TrafficShare


def reason(traffic: TrafficShare) -> str:
    """The sentence that the traffic does not follow the weight, with its numbers; empty where it does."""
    if traffic.off is None or not traffic.is_off:
        return ""
    what = (
        "copies do not come as they are mirrored" if traffic.due_by else "traffic does not follow the weight"
    )
    observed = (
        "; the policy only observes: whoever steers this service has to send that share"
        if traffic.observes
        else ""
    )
    return f"{what}: {_counted(traffic, traffic.off)}{observed}"


def doubt(traffic: TrafficShare) -> str:
    """Why no stage should pass yet; empty where nothing is in doubt."""
    if traffic.doubtful is None or not traffic.is_in_doubt:
        return ""
    return f"{_counted(traffic, traffic.doubtful)}, which some looks more must bear out or not"


def note(traffic: TrafficShare) -> str:
    """What a reader must know although it stops nothing; empty where there is nothing."""
    if traffic.off is None or traffic.is_off:
        return ""
    return f"{_counted(traffic, traffic.off)}; the policy only observes, so it is compared as it comes"


def _counted(traffic: TrafficShare, share: ServedShare) -> str:
    of_all = f"{share.served:,} of {share.of:,} requests ({100 * share.share:.3g}%)"
    due_by = f" ({traffic.due_by})" if traffic.due_by else ""
    return f"the canary served {of_all} in {share.looks} looks where {traffic.due:.3g}% were due{due_by}"

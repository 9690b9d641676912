"""Access reviews of the sandbox's Kubernetes API: everyone may do everything, but for what is denied on
purpose.

There is no authentication here: `sandbox` is the caller, or whom the header Impersonate-User names.
"""

from typing import Any

from canaryd_sandbox.kubernetes.resources import REVIEWS, ApiError, Object, Resource

CALLER = "sandbox"


class Access:
    """denied: (user, verb, resource as `deployments/scale.apps` or `configmaps`) that a review says no to.
    Requests are served all the same."""

    def __init__(self) -> None:
        self.denied: set[tuple[str, str, str]] = set()

    def review(self, resource: Resource, body: Any, caller: str | None) -> Object:
        """The review with its answer. ApiError 422 for one that asks nothing."""
        if resource is REVIEWS[2]:
            return _review(resource, {"userInfo": {"username": caller or CALLER}})
        spec = body.get("spec") if isinstance(body, dict) else None
        if not isinstance(spec, dict) or not isinstance(spec.get("resourceAttributes"), dict):
            raise _invalid(
                resource,
                "spec.resourceAttributes",
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )
        own = resource is REVIEWS[0]
        if not own and not (spec.get("user") or spec.get("groups")):
            raise _invalid(resource, "spec.user", "at least one of user or group must be specified")
        attributes = spec["resourceAttributes"]
        named = "/".join(filter(None, (attributes.get("resource", ""), attributes.get("subresource", ""))))
        asked = ".".join(filter(None, (named, attributes.get("group", ""))))
        who = (caller or CALLER) if own else str(spec.get("user") or "")
        allowed = (who, attributes.get("verb"), asked) not in self.denied
        answer = {"allowed": allowed} | ({} if allowed else {"reason": "the sandbox was told to deny it"})
        return {**_review(resource, answer), "spec": spec}


def _review(resource: Resource, status: Object) -> Object:
    return {
        "apiVersion": resource.api_version("v1"),
        "kind": resource.kind,
        "metadata": {},
        "status": status,
    }


def _invalid(resource: Resource, where: str, what: str) -> ApiError:
    return ApiError(
        422, "Invalid", f'{resource.kind}.{resource.group} "" is invalid: {where}: Invalid value: {what}'
    )

"""Which rights a command uses, by what it asks the sandbox's API server for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from canaryd.domain.check_facts import Right
from canaryd_sandbox.world import World


@contextmanager
def audited(world: World) -> Iterator[set[Right]]:
    """What the API server is asked for, as RBAC has it; not what it says of itself, nor whether a namespace
    is there."""
    found, verbs = set[Right](), {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

    def note(method: str, path: str) -> bool:
        is_core, *parts = (path.startswith("/api/"), *path.split("/")[3 if path.startswith("/api/") else 2 :])
        group = "" if is_core else parts[0]
        parts = parts if is_core else parts[2:]
        namespace, parts = (
            (parts[1], parts[2:]) if parts[:1] == ["namespaces"] and len(parts) > 2 else ("", parts)
        )
        if parts and parts[0] != "namespaces":
            found.add(
                Right(group, parts[0], verbs.get(method, "get" if len(parts) > 1 else "list"), namespace)
            )
        return False

    world.kubernetes.faults.status(500, 1, note)
    yield found
    world.kubernetes.faults.clear()

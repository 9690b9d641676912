"""As much of OpenAPI v3 as kubectl asks for before it applies: that every PATCH knows `fieldValidation`, so
the server validates."""

from canaryd_sandbox.kubernetes.resources import RESOURCES, Object, group_versions


def openapi(path: str) -> Object | None:
    """The document at an /openapi/v3 path, None where there is none."""
    parts = [part for part in path.split("/") if part]
    if parts[:2] != ["openapi", "v3"]:
        return None
    known = [
        "api/v1",
        *(f"apis/{group}/{version}" for group, versions in group_versions().items() for version in versions),
    ]
    where = "/".join(parts[2:])
    if not where:
        return {"paths": {name: {"serverRelativeURL": f"/openapi/v3/{name}"} for name in known}}
    if where not in known:
        return None
    group = parts[3] if parts[2] == "apis" else ""
    version = parts[-1]
    paths: Object = {}
    for resource in RESOURCES:
        if resource.group == group and version in resource.versions:
            place = "namespaces/{namespace}/" if resource.namespaced else ""
            kind = {"group": group, "version": version, "kind": resource.kind}
            parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
            paths[f"/{where}/{place}{resource.plural}/{{name}}"] = {
                "patch": {
                    "x-kubernetes-group-version-kind": kind,
                    "x-kubernetes-action": "patch",
                    "parameters": parameters,
                    "responses": {},
                }
            }
    return {"openapi": "3.0.0", "info": {"title": "sandbox", "version": "v1"}, "paths": paths}

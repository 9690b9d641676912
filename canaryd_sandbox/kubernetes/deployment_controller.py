"""The Deployment controller of the sandbox: pods that come, crash and go, and the status that tells of it.

How a pod lives is said by the label `canaryd.test/pod` of its template, the same words as on the real parts:

    (none)        ready after a moment
    late          ready after the annotation `canaryd.test/after` (default 20s)
    never-ready   running, never ready
    crash-loop    never ready, its container waiting in CrashLoopBackOff
    breaks        ready after a moment, in crash loop `canaryd.test/after` later

Of a rolling update only the order is kept: new pods first, the old ones go when all the new are ready. There
are no ReplicaSet objects; pods name the one they would have.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass

from canaryd_sandbox.kubernetes.resources import DEPLOYMENTS, PODS, ApiError, Object
from canaryd_sandbox.kubernetes.store import LETTERS, Store, timestamp
from canaryd_sandbox.mesh.istio_objects import injected

MODE, AFTER = "canaryd.test/pod", "canaryd.test/after"
HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass
class _Progress:
    """What the controller remembers of one Deployment between two looks."""

    template: str
    since: float  # the last progress: a new template, a changed size, one more ready pod
    ready: int = 0
    wanted: int = -1
    complete: bool = False  # has been complete with this template; a later break is not a missed deadline


def template_hash(deployment: Object) -> str:
    """Ten letters that name a pod template, as in the names of pods."""
    digest = hashlib.sha256(json.dumps(deployment["spec"]["template"], sort_keys=True).encode()).digest()
    return "".join(LETTERS[byte % len(LETTERS)] for byte in digest[:10])


def image_id(image: str) -> str:
    """What a node says of the image that it runs: the same for the same name, unless that says which."""
    repository, _, digest = image.partition("@")
    folder, slash, name = repository.rpartition("/")
    digest = digest or f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"
    return f"{folder}{slash}{name.partition(':')[0]}@{digest}"


def after_seconds(text: str) -> float:
    """`20s`, `1m30s` or `500ms` in seconds; ValueError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        raise ValueError(f"{AFTER}: a duration such as 20s is wanted, but it is {text!r}")
    return sum(float(number) * UNIT_SECONDS[unit] for number, unit in parts)


class DeploymentController:
    """Makes the world what the Deployments say. startup: seconds from a pod's birth until it is ready."""

    def __init__(self, store: Store, startup: float = 0.5) -> None:
        self._store, self._startup = store, startup
        self._progress: dict[str, _Progress] = {}
        self._born: dict[str, float] = {}
        self._addresses = 0

    def advance(self, now: float) -> None:
        """One pass over all Deployments and their pods."""
        with self._store.lock:
            deployments = self._store.list(DEPLOYMENTS)
            pods = self._store.list(PODS)
            known = {deployment["metadata"]["uid"] for deployment in deployments}
            for pod in pods:
                owner = pod["metadata"].get("annotations", {}).get("canaryd.test/deployment")
                if owner and owner not in known:
                    self._delete(pod)
            for uid in self._progress.keys() - known:
                del self._progress[uid]
            for deployment in deployments:
                self._reconcile(deployment, pods, now)

    def _reconcile(self, deployment: Object, pods: list[Object], now: float) -> None:
        metadata, spec = deployment["metadata"], deployment["spec"]
        named, wanted = template_hash(deployment), spec.get("replicas", 1)
        progress = self._progress.get(metadata["uid"])
        if progress is None or progress.template != named:
            progress = self._progress[metadata["uid"]] = _Progress(named, now)
            deployment = self._revise(deployment)
        if progress.wanted != wanted:
            progress.wanted, progress.since = wanted, now
        mine = [
            pod
            for pod in pods
            if pod["metadata"].get("annotations", {}).get("canaryd.test/deployment") == metadata["uid"]
        ]
        new = [pod for pod in mine if pod["metadata"]["labels"].get(HASH) == named]
        old = [pod for pod in mine if pod["metadata"]["labels"].get(HASH) != named]
        # Scaling down takes the youngest first, as a real ReplicaSet does among equals.
        new.sort(key=lambda pod: self._born.get(pod["metadata"]["uid"], 0.0))
        for pod in new[wanted:]:
            self._delete(pod)
        new = new[:wanted] + [self._bear(deployment, named, now) for _ in range(wanted - len(new))]
        new = [self._live(pod, now) for pod in new]
        ready = sum(is_ready(pod) for pod in new)
        if ready == wanted:
            for pod in old:
                self._delete(pod)
            old = []
        old = [self._live(pod, now) for pod in old]
        if ready > progress.ready:
            progress.since = now
        progress.ready = ready
        progress.complete = progress.complete or (ready == wanted and not old)
        self._report(deployment, progress, new, old, now)

    def _revise(self, deployment: Object) -> Object:
        """Counts the templates a Deployment has had, as the real controller does in an annotation."""
        metadata = deployment["metadata"]
        annotations = metadata.get("annotations") or {}
        revision = str(int(annotations.get(REVISION, "0")) + 1)
        changed = {**deployment, "metadata": {**metadata, "annotations": {**annotations, REVISION: revision}}}
        return self._store.replace(DEPLOYMENTS, metadata["namespace"], metadata["name"], changed)

    def _bear(self, deployment: Object, named: str, now: float) -> Object:
        metadata, template = deployment["metadata"], deployment["spec"]["template"]
        replicaset = f"{metadata['name']}-{named}"
        labels = template.get("metadata", {}).get("labels") or {}
        annotations = template.get("metadata", {}).get("annotations") or {}
        pod = self._store.create(
            PODS,
            metadata["namespace"],
            {
                "metadata": {
                    "generateName": f"{replicaset}-",
                    "labels": {**labels, HASH: named},
                    "annotations": {**annotations, "canaryd.test/deployment": metadata["uid"]},
                    "ownerReferences": [
                        {
                            "apiVersion": "apps/v1",
                            "kind": "ReplicaSet",
                            "name": replicaset,
                            "uid": metadata["uid"],
                            "controller": True,
                            "blockOwnerDeletion": True,
                        }
                    ],
                },
                "spec": injected(
                    self._store, metadata["namespace"], {**template.get("spec", {}), "nodeName": "node-0"}
                ),
            },
        )
        self._born[pod["metadata"]["uid"]] = now
        return pod

    def _delete(self, pod: Object) -> None:
        self._born.pop(pod["metadata"]["uid"], None)
        try:
            self._store.delete(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
        except ApiError as error:
            if error.code != 404:  # somebody else deleted it: that was the aim
                raise

    def _live(self, pod: Object, now: float) -> Object:
        """The pod with the status that its age and its mode give it."""
        metadata = pod["metadata"]
        age = now - self._born.setdefault(metadata["uid"], now)
        mode = metadata["labels"].get(MODE, "ready")
        after = after_seconds(metadata["annotations"].get(AFTER, "20s"))
        crashed = mode == "crash-loop" or (mode == "breaks" and age >= self._startup + after)
        ready = not crashed and mode != "never-ready" and age >= (after if mode == "late" else self._startup)
        status = pod.get("status", {})
        if status and (is_ready(pod), _crashed(pod)) == (ready, crashed):
            return pod
        return self._store.replace(
            PODS,
            metadata["namespace"],
            metadata["name"],
            {**pod, "status": self._status(pod, ready, crashed, now)},
            "status",
        )

    def _status(self, pod: Object, ready: bool, crashed: bool, now: float) -> Object:
        old, moment = pod.get("status", {}), timestamp(now)
        if not old:
            self._addresses += 1
        state: Object = {"running": {"startedAt": moment}}
        if crashed:
            state = {
                "waiting": {
                    "reason": "CrashLoopBackOff",
                    "message": "back-off 2m40s restarting failed container",
                }
            }
        word = "True" if ready else "False"
        conditions: list[Object] = [{"type": "Initialized", "status": "True", "lastTransitionTime": moment}]
        conditions += [
            {"type": kind, "status": word, "lastTransitionTime": moment}
            | ({} if ready else {"reason": "ContainersNotReady"})
            for kind in ("ContainersReady", "Ready")
        ]
        containers = [
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "imageID": image_id(container.get("image", "")),
                "ready": ready,
                "started": not crashed,
                "restartCount": 5 if crashed else 0,
                "state": state,
            }
            for container in pod["spec"].get("containers", [])
        ]
        return {
            "phase": "Running",
            "startTime": old.get("startTime", moment),
            "hostIP": "127.0.0.1",
            "podIP": old.get("podIP", f"127.9.{self._addresses // 250}.{self._addresses % 250 + 1}"),
            "conditions": conditions,
            "containerStatuses": containers,
        }

    def _report(
        self, deployment: Object, progress: _Progress, new: list[Object], old: list[Object], now: float
    ) -> None:
        metadata, spec = deployment["metadata"], deployment["spec"]
        ready = sum(is_ready(pod) for pod in [*new, *old])
        counts = {
            "replicas": len(new) + len(old),
            "updatedReplicas": len(new),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": max(0, progress.wanted - ready),
        }
        # maxUnavailable's default, rounded down
        available = ready >= progress.wanted - math.floor(progress.wanted * 0.25)
        replicaset = f'ReplicaSet "{metadata["name"]}-{progress.template}"'
        late = not progress.complete and now - progress.since > spec.get("progressDeadlineSeconds", 600)
        if late:
            moving = ("False", "ProgressDeadlineExceeded", f"{replicaset} has timed out progressing.")
        elif progress.complete:
            moving = ("True", "NewReplicaSetAvailable", f"{replicaset} has successfully progressed.")
        else:
            moving = ("True", "ReplicaSetUpdated", f"{replicaset} is progressing.")
        usable = (
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
            if available
            else ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        )
        before = {
            condition["type"]: condition for condition in deployment.get("status", {}).get("conditions", [])
        }
        # zeros are left out, as the real one does
        status: Object = {key: count for key, count in counts.items() if count}
        status |= {
            "observedGeneration": metadata["generation"],
            "conditions": [
                _condition("Available", usable, before, now),
                _condition("Progressing", moving, before, now),
            ],
        }
        self._store.replace(
            DEPLOYMENTS,
            metadata["namespace"],
            metadata["name"],
            {"metadata": {}, "status": status},
            "status",
            checked=False,
        )


def _condition(kind: str, state: tuple[str, str, str], before: dict[str, Object], now: float) -> Object:
    old, moment = before.get(kind, {}), timestamp(now)
    if (old.get("status"), old.get("reason"), old.get("message")) == state:
        return old
    changed = old.get("lastTransitionTime", moment) if old.get("status") == state[0] else moment
    return {
        "type": kind,
        "status": state[0],
        "reason": state[1],
        "message": state[2],
        "lastUpdateTime": moment,
        "lastTransitionTime": changed,
    }


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready and not on its way out."""
    conditions = {
        condition["type"]: condition["status"] for condition in pod.get("status", {}).get("conditions", [])
    }
    return conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp")


def _crashed(pod: Object) -> bool:
    return any(
        "waiting" in container.get("state", {})
        for container in pod.get("status", {}).get("containerStatuses", [])
    )

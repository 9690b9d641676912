"""The configuration of a Prometheus that makes Istio's metrics of Envoy's, and of an Alertmanager that tells
a test at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]

# namespace/app/version/pod of the replica, namespace/workload of the client: proxies.of_backends
OF_CLUSTER = "([^/]+)/([^/]+)/([^/]+)/([^/]+)/([^/]+)/([^/]+)"


def _label(target: str, source: str, regex: str, replacement: str = "$1") -> Document:
    return {"source_labels": [source], "regex": regex, "target_label": target, "replacement": replacement}


def _of_cluster(target: str, replacement: str) -> Document:
    return _label(target, "envoy_cluster_name", OF_CLUSTER, replacement)


RELABEL: list[Document] = [
    {
        "source_labels": ["__name__"],
        "regex": "envoy_cluster_upstream_rq(_time_(bucket|count|sum))?",
        "action": "keep",
    },
    {"source_labels": ["envoy_cluster_name"], "regex": OF_CLUSTER, "action": "keep"},
    _label("reporter", "__name__", ".*", "destination"),
    _label("request_protocol", "__name__", ".*", "http"),
    _label("response_flags", "__name__", ".*", "-"),
    _of_cluster("destination_service_namespace", "$1"),
    _of_cluster("destination_workload_namespace", "$1"),
    _of_cluster("namespace", "$1"),
    _of_cluster("destination_service_name", "$2"),
    _of_cluster("destination_app", "$2"),
    _of_cluster("destination_canonical_service", "$2"),
    _of_cluster("destination_service", "$2.$1.svc.cluster.local"),
    _of_cluster("destination_version", "$3"),
    _of_cluster("destination_canonical_revision", "$3"),
    _of_cluster("pod", "$4"),
    _of_cluster("source_workload_namespace", "$5"),
    _of_cluster("source_workload", "$6"),
    _label("destination_workload", "pod", "(.+)-[a-z0-9]+-[a-z0-9]+"),
    _label("response_code", "envoy_response_code", "(.+)"),
    _label("__name__", "__name__", "envoy_cluster_upstream_rq", "istio_requests_total"),
    _label(
        "__name__",
        "__name__",
        "envoy_cluster_upstream_rq_time_(.+)",
        "istio_request_duration_milliseconds_$1",
    ),
    {"regex": "envoy_.*", "action": "labeldrop"},
]


# As istiod names clusters: outbound|80|v1|front-end.production.svc.cluster.local. Istio's own statistics have
# the Service from the cluster's metadata, which a test compares with the name; the workload they have from
# the server, and here the version tells it: a subset's name, or a version's own Service; of the Services of
# split users, it is a rollout of v2 beside v1.
CALLED = r"outbound\|\d+\|([^|]*)\|([^.]+)\.([^.]+)\.svc\..*"


def _called(target: str, replacement: str) -> Document:
    return _label(target, "envoy_cluster_name", CALLED, replacement)


OF_CALLERS: list[Document] = [
    *RELABEL[:1],
    {"source_labels": ["envoy_cluster_name"], "regex": CALLED, "action": "keep"},
    _label("reporter", "__name__", ".*", "source"),
    _label("request_protocol", "__name__", ".*", "http"),
    _label("response_flags", "__name__", ".*", "-"),
    _called("destination_service_name", "$2"),
    _called("destination_service_namespace", "$3"),
    _called("destination_workload_namespace", "$3"),
    _called("destination_service", "$2.$3.svc.cluster.local"),
    _label(
        "destination_workload", "envoy_cluster_name", r"outbound\|\d+\|(v\d+)\|front-end.*", "front-end-$1"
    ),
    _label("destination_workload", "envoy_cluster_name", r"outbound\|\d+\|\|(front-end-v\d+)\..*"),
    _label(
        "destination_workload",
        "envoy_cluster_name",
        r"outbound\|\d+\|\|front-end-canaryd-stable\..*",
        "front-end-v1",
    ),
    _label(
        "destination_workload",
        "envoy_cluster_name",
        r"outbound\|\d+\|\|front-end-canaryd-canary\..*",
        "front-end-v2",
    ),
    _label("response_code", "envoy_response_code", "(.+)"),
    *RELABEL[-3:],
]


def prometheus(target: str, callers: Mapping[str, str]) -> Document:
    """Scrapes the replicas' Envoy (host:port), and the callers' (by their pods' names), and evaluates the
    rules of rules/*.yml beside this file, each second."""

    def job(name: str, statics: list[Document], relabel: list[Document]) -> Document:
        return {
            "job_name": name,
            "metrics_path": "/stats/prometheus",
            "static_configs": statics,
            "metric_relabel_configs": relabel,
        }

    of_callers = [{"targets": [address], "labels": {"pod": pod}} for pod, address in callers.items()]
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules/*.yml"],
        "scrape_configs": [
            job("istio", [{"targets": [target]}], RELABEL),
            job("callers", of_callers, OF_CALLERS),
        ],
    }


def alertmanager(webhook: str) -> Document:
    """Sends each alert by itself to one webhook, without the waits that spare people's sleep."""
    return {
        "route": {
            "receiver": "test",
            "group_by": ["..."],
            "group_wait": "100ms",
            "group_interval": "1s",
            "repeat_interval": "1h",
        },
        "receivers": [{"name": "test", "webhook_configs": [{"url": webhook, "send_resolved": True}]}],
    }

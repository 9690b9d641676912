"""What Envoys are told, as JSON documents: the replicas' Envoy by files, the clients' Envoys where to find
istiod."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Document = dict[str, Any]

TYPE = "type.googleapis.com/envoy."
CLIENTS = {
    "ingress": "istio-system/istio-ingressgateway",
    "sidecar": "production/client",
}  # namespace/workload, by their Envoys
UNKNOWN = "unknown/unknown"
# what the clients' Envoys say who they are, as Istio's exchange metadata: namespace/workload
SOURCE = "x-source"
# As Istio's bootstrap has them: the names of istiod's clusters have dots, at the first of which Envoy's own
# rule would cut them off.
STATS_TAGS = [
    {"tag_name": "envoy.cluster_name", "regex": r"^cluster\.((outbound\|.+?\.svc\.cluster\.local);?\.)"},
    {"tag_name": "envoy.response_code", "regex": r"_rq(_(\d{3}))$"},
]
ADS: Document = {"ads": {}, "resource_api_version": "V3"}


@dataclass(frozen=True)
class Backend:
    """One pod as its Envoy sees it: `ip`:8080 in front, the application's `port` on 127.0.0.1 behind."""

    # namespace/app/version/pod, which becomes the labels of its metrics, with the client's namespace/workload
    # behind it
    name: str
    pod: str
    ip: str
    port: int


def address(host: str, port: int) -> Document:
    return {"socket_address": {"address": host, "port_value": port}}


def cluster(name: str, host: str, port: int, **more: object) -> Document:
    endpoints = {"lb_endpoints": [{"endpoint": {"address": address(host, port)}}]}
    assignment = {"cluster_name": name, "endpoints": [endpoints]}
    return {"name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": assignment, **more}


def listener(name: str, host: str, port: int, routes: Document, source: str = "") -> Document:
    """source: of a client, which it tells the server; whatever its own callers said is overwritten."""
    router = {"name": "router", "typed_config": {"@type": TYPE + "extensions.filters.http.router.v3.Router"}}
    told = {
        "append": {"header": {"key": SOURCE, "value": source}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    }
    mutation = {
        "name": "source",
        "typed_config": {
            "@type": TYPE + "extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"request_mutations": [told]},
        },
    }
    manager = {
        "@type": TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": [*([mutation] if source else []), router],
        **routes,
    }
    return {
        "name": name,
        "address": address(host, port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def of_backends(backends: Iterable[Backend]) -> tuple[list[Document], list[Document]]:
    """Clusters and listeners of the replicas' Envoy: a listener for a pod, and a cluster for each client,
    whose name is in the metrics."""
    clusters, listeners = [], []
    for backend in backends:
        routes = []
        for source in (*CLIENTS.values(), UNKNOWN):
            name = f"{backend.name}/{source}"
            clusters.append(
                {"@type": TYPE + "config.cluster.v3.Cluster", **cluster(name, "127.0.0.1", backend.port)}
            )
            is_it = (
                {"headers": [{"name": SOURCE, "string_match": {"exact": source}}]}
                if source != UNKNOWN
                else {}
            )
            # No time limit: how long an answer takes is the application's business.
            routes.append({"match": {"prefix": "/", **is_it}, "route": {"cluster": name, "timeout": "0s"}})
        hosts = [{"name": "all", "domains": ["*"], "routes": routes}]
        listeners.append(
            {
                "@type": TYPE + "config.listener.v3.Listener",
                **listener(
                    f"in-{backend.pod}",
                    backend.ip,
                    8080,
                    {
                        "route_config": {
                            "name": backend.pod,
                            "virtual_hosts": hosts,
                            # Envoy may read the listeners' file first, and would refuse all of it for ever
                            "validate_clusters": False,
                        }
                    },
                ),
            }
        )
    return clusters, listeners


def replicas_bootstrap(folder: Path, admin: int) -> Document:
    """The replicas' Envoy: its clusters and listeners are files in `folder`, its metrics at the admin
    port."""

    def file(name: str) -> Document:
        return {"resource_api_version": "V3", "path_config_source": {"path": str(folder / name)}}

    return {
        "node": {"id": "replicas", "cluster": "replicas"},
        "admin": {"address": address("127.0.0.1", admin)},
        "stats_flush_interval": "1s",  # histograms move on a flush: no later than the next scrape
        "dynamic_resources": {"lds_config": file("lds.json"), "cds_config": file("cds.json")},
    }


def client_bootstrap(
    node: str,
    route: str,
    port: int,
    admin: int,
    istiod: str,
    labels: Mapping[str, str],
    namespace: str,
    source: str,
) -> Document:
    """An Envoy whose routes, clusters and endpoints come from istiod (host:port of its gRPC). source: who it
    says it is (CLIENTS)."""
    http2 = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    host, grpc = istiod.rsplit(":", 1)
    service = {"envoy_grpc": {"cluster_name": "istiod"}}
    metadata = {
        "NAMESPACE": namespace,
        "CLUSTER_ID": "Kubernetes",
        "ISTIO_VERSION": "1.31.0",
        "LABELS": dict(labels),
    }
    return {
        "node": {"id": node, "cluster": node, "metadata": metadata},
        "admin": {"address": address("127.0.0.1", admin)},
        "stats_flush_interval": "1s",
        "stats_config": {"use_all_default_tags": False, "stats_tags": STATS_TAGS},
        "dynamic_resources": {
            "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]},
            "cds_config": ADS,
        },
        "static_resources": {
            "clusters": [cluster("istiod", host, int(grpc), typed_extension_protocol_options=http2)],
            "listeners": [
                listener(
                    "out",
                    "127.0.0.1",
                    port,
                    {"rds": {"route_config_name": route, "config_source": ADS}},
                    source,
                )
            ],
        },
    }

"""The embedded world: a small Kubernetes API, a mesh with traffic, and a Prometheus API, over HTTP on
127.0.0.1.

The real daemon runs against it with its real clients, in `canaryd demo` and in the tests. Everything is
simulated, seeded and takes its time from outside, and every outside thing can be made to fail on demand.
Nothing here knows how canaryd decides, and nothing in canaryd but `cli` knows that this exists.

    server.py             one HTTP server in a thread, and the faults it can have
    kubernetes.py         the Kubernetes API: discovery, CRUD, patches, watch     (kubernetes_*.py: its parts)
    deployments.py        the Deployment controller: pods that come, crash and go
    mesh.py               requests by the route's weights, Istio's counters per pod, the exact tally
    prometheus.py         samples scraped from the mesh, and the HTTP API over them
    receiver.py           collects posted webhooks
    world.py              all of it together, seeded with the worked example
    scenarios.py          what `canaryd demo --scenario` plays
"""

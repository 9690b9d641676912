"""The embedded world: a small Kubernetes API, a mesh with traffic, and a Prometheus API, over HTTP on
127.0.0.1.

The real daemon runs against it with its real clients, in `canaryd demo` and in the tests. Everything is
simulated, seeded and takes its time from outside, and every outside thing can be made to fail on demand.
Nothing here knows how canaryd decides: no module here imports canaryd, and of canaryd only `commands/demo`
imports this.

    world.py       all of it together, seeded with the worked example
    scenarios.py   what `canaryd demo --scenario` plays
    kubernetes/    the Kubernetes API: discovery, CRUD, patches, watches, access reviews (api, store, patch,
                   schema, watch, access, ...), and the Deployment controller: pods that come, crash and go
    mesh/          requests by the weights of the routes, Istio's counters per pod, and the exact tally
    prometheus/    samples scraped from the mesh, PromQL, and the HTTP API over them
    receiver.py    collects posted webhooks
    server.py      one HTTP server in a thread, and the faults it can have
"""

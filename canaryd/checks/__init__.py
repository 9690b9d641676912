"""Will canaryd work here? Facts in, findings out; whoever asks gathers the facts and prints the findings.

    finding.py     what one finding is, and its YAML
    istio.py       the control plane, its API versions, clocks
    injection.py   sidecars, revisions, ambient
    routes.py      VirtualService, DestinationRule and Gateway: do they agree, and do others interfere
    gateways.py    the Gateways that a VirtualService names
    matches.py     conditions that lost their indentation, in what the API server has
    manifests.py   files that lost their indentation, and as they were meant
    workloads.py   Service and Deployments
    telemetry.py   what Prometheus has of the service
    rights.py      what canaryd and its users must be allowed
    rivals.py      who else writes the route: GitOps, Flagger, Argo Rollouts
    candidates.py  without policies: which services could have one
    survey.py      all of them, in order

Pure: no I/O, no clock. A fact that could not be had becomes a finding `unknown`, never an error.
"""

"""`canaryd check`: will canaryd work here? `command` gathers facts and prints findings; the other modules
turn facts into findings.

    finding                what one finding is, and its YAML
    control_plane          istiod, its API versions, clocks
    sidecar_injection      sidecars, revisions, ambient
    route_agreement        VirtualService, DestinationRule and Gateway: do they agree, and do others interfere
    gateways               the Gateways that a VirtualService names
    lost_match_indentation conditions that lost their indentation, in what the API server has
    lost_indentation       files that lost their indentation, and as they were meant
    workloads              Service and Deployments
    service_telemetry      what Prometheus has of the service
    daemon_rbac, user_rbac what canaryd and its users must be allowed
    competing_controllers  who else writes the route: GitOps, Flagger, Argo Rollouts
    policy_suggestions     without policies: which services could have one
    all_checks             all of them, in order

All but `command` are pure: no I/O, no clock. A fact that could not be had becomes a finding `unknown`, never
an error.
"""

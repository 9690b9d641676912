"""canaryd: hands-off canary releases for Istio.

The middle decides, the edge does, and one file owns the life of a rollout:

    domain/      the words: policies, rollouts, counts, verdicts, ports. No I/O, no clock.
                 lifecycle.py is THE state machine; ledger.py counts every request once.
    stats/       numbers in, numbers out: always-valid tests. Has never heard of Kubernetes.
    analysis/    counts + policy -> verdict, and the verdict in words; the same fold over a past. Pure.
    checks/      what a cluster has + what canaryd needs -> findings, each with what mends it. Pure.
    control/     the loop: supervisor (which rollouts exist), case (what telemetry says of one), reconciler (one look of one rollout),
                 beat (all of them, once); past (the same walk, over what was). The only place where deciding and doing meet.
    adapters/    one file for each outside thing: the API server, Prometheus, recordings, webhooks, Alertmanager, files, the scheduler.
    sandbox/     a small Kubernetes, a mesh with traffic and a Prometheus, for the demo and the tests.
    settings.py  config/canaryd.yaml; app.py puts everything together; cli/ is the command line.

Who may import whom is checked by tests/test_architecture.py.
"""

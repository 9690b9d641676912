"""canaryd: hands-off canary releases for Istio.

The middle decides, the edge does, and one file owns the life of a rollout:

    domain/      what canaryd talks about: policies, rollouts, counts, verdicts, ports. No I/O, no clock.
                 lifecycle.py is the state machine; policy/ is what an SRE writes.
    routing/     arithmetic of Istio's and the Gateway API's route documents. Pure.
    stats/       numbers in, numbers out: always-valid tests. Has never heard of Kubernetes.
    judge/       counts and a policy in, a verdict out. Pure.
    report/      rollouts and verdicts in sentences and JSON. Pure.
    simulation/  a simulated service and its rollout, for forecasts and the benchmark. Pure.
    control/     the loop: loop (one tick) -> supervisor (which rollouts exist) -> reconciler (one look of one
                 rollout). The only place where deciding and doing meet.
    adapters/    one file or folder for each outside thing: kube/, prometheus/, notify/, policies/, files.
    commands/    one room for each command; cli/ is what they share.
    settings.py  config/canaryd.yaml; app.py puts everything together.

The simulated cluster of the demo and the tests is a package beside this one: canaryd_sandbox.
Who may import whom is checked by tests/test_architecture.py.
"""

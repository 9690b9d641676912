"""The command line: `main`, and nothing that decides.

Each command has a module or a folder in canaryd.commands, which is imported only when the command runs: then
`canaryd --help` answers at once, and `canaryd run` carries no terminal library in its memory.

    group.py            the group of commands, and readable failures
    cluster.py          --namespace, --kubeconfig, --context, and the connection
    output.py           tables, explanations, JSON
    policy_argument.py  policies that an argument names
    progress.py         how far a long reading has come
    wait.py             --wait

Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 the API server (or another server) did not answer; 4
(`deploy`) only shown, since nobody agreed.
"""

from canaryd.cli.group import LazyGroup

COMMANDS = {
    "The daemon": {
        "run": ("canaryd.commands.run", "Run the daemon."),
        "demo": (
            "canaryd.commands.demo.command",
            "Watch it work: a release and a rollback on a simulated cluster.",
        ),
        "completion": ("canaryd.commands.completion", "Print the completion script for a shell."),
        "crd": ("canaryd.commands.crd", "Print the CustomResourceDefinition, for kubectl apply."),
    },
    "Policies": {
        "validate": (
            "canaryd.commands.validate",
            "Check policy files; every mistake at once, with its line.",
        ),
        "schema": ("canaryd.commands.validate", "Print the JSON Schema of a policy, for editors."),
        "check": (
            "canaryd.commands.check.command",
            "Check whether it will work here: Istio, routes, telemetry, rights.",
        ),
        "plan": (
            "canaryd.commands.plan.command",
            "Forecast a policy's releases: time in each stage, what is caught where.",
        ),
    },
    "Releasing": {
        "deploy": (
            "canaryd.commands.deploy.command",
            "Deploy what runs in staging to production, beside the present version.",
        ),
    },
    "Looking": {
        "status": ("canaryd.commands.status", "Show the rollouts: stage, weight, odds, reason."),
        "explain": ("canaryd.commands.explain.command", "Explain why a rollout is where it is, in numbers."),
    },
    "Looking back": {
        "record": (
            "canaryd.commands.backtest.record_command",
            "Save to a file what was counted of two versions.",
        ),
        "backtest": (
            "canaryd.commands.backtest.command",
            "Run policies on past traffic: what would have been decided, and when.",
        ),
    },
    "Acting": {
        "start": ("canaryd.commands.verbs", "Begin a rollout by hand."),
        "hold": ("canaryd.commands.verbs", "Keep the weight as it is; harm still rolls back."),
        "resume": ("canaryd.commands.verbs", "Let a held rollout go on."),
        "approve": ("canaryd.commands.verbs", "Approve the stage, or the gate, that a rollout waits for."),
        "abort": ("canaryd.commands.verbs", "Send all traffic back to stable now."),
        "promote": (
            "canaryd.commands.verbs",
            "Send all traffic to the canary now; it is still judged there.",
        ),
        "retry": ("canaryd.commands.verbs", "Try a rolled back version once more."),
        "pause": (
            "canaryd.commands.verbs",
            "Pause a service: nothing begins or advances; rollbacks still happen.",
        ),
        "reset": (
            "canaryd.commands.reset.command",
            "Take back what canaryd left: routes to one version, subsets, records.",
        ),
    },
}

main = LazyGroup(
    "canaryd",
    commands=COMMANDS,
    help="Hands-off canary releases for Istio: moves traffic, compares versions statistically, promotes or "
    "rolls back, and explains itself.",
    epilog="Begin with `canaryd demo`, which needs no cluster. `canaryd COMMAND --help` has an example for "
    "each command.",
)


def kubectl_plugin() -> None:
    """`kubectl canaryd`: the same commands, of an executable `kubectl-canaryd` on the PATH."""
    main(prog_name="kubectl canaryd")


__all__ = ["kubectl_plugin", "main"]

"""The loop: the only place where deciding and doing meet.

`supervisor` says which rollouts exist, `case` reads telemetry for one rollout and has it judged, `reconciler`
takes one rollout one look further, and `beat` does all of it once, for all rollouts. Everything outside comes
through ports.
"""

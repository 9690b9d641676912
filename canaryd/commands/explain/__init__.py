"""`canaryd explain`: why a rollout is where it is, recomputed from telemetry where that is still there."""

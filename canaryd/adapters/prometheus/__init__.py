"""Prometheus, as canaryd uses it: `api` is the way to it, `telemetry` the port that counts by it."""

"""Prometheus' HTTP API over samples scraped from the simulated mesh."""

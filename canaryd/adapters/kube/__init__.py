"""Kubernetes and Istio, as canaryd uses them.

`client` is the way to the API server; each other file implements one port on it. They may use `client`, and
know nothing of one another.
"""

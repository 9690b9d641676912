"""The edge: one file (or folder) for each outside thing, named after it; each implements a port of
`canaryd.domain.ports`.

An adapter raises `Unavailable` (try again) or `Rejected` (tell someone), and decides nothing about a rollout.
"""

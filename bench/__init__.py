"""Measurements of what canaryd promises, each a table; run one by `python -m bench.NAME`."""

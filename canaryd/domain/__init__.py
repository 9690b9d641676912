"""The words of progressive delivery: policies, rollouts, counts, verdicts, and the ports to the outside.

Nothing here does I/O or reads a clock; everything is frozen, and times are Unix seconds (UTC).
"""

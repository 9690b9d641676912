"""Counts and a policy in, a verdict out. Pure: no clock, no I/O, no knowledge of who asks."""

"""Counts and a policy in, a verdict out, and its words. Pure: no clock, no I/O, no knowledge of who asks."""

"""Numbers in, numbers out: the statistics canaryd decides by. Nothing here knows of services, looks or
policies.

Only numpy and scipy.special are used (scipy.stats costs 0.5 s and 90 MB to import). Arm 1 is the reference,
arm 2 the one that is held against it. `betabinomial` and `betting` hold the two evidence processes; `blocks`
says what their unit must be.
"""

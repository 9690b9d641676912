"""Block lengths from one version's own past."""

import numpy as np

from canaryd.stats.blocks import correlation_time


def test_looks_before_a_version_was_there_do_not_make_chance_look_like_correlation():
    """60 looks of independent failures behind 300 without a request: seldom more than independent, as with the 60 alone."""
    rng = np.random.default_rng(11)
    longer = 0
    for _ in range(200):
        requests = np.concatenate((np.zeros(300), rng.poisson(100, 60))).astype(float)
        events = rng.binomial(requests.astype(int), 0.01).astype(float)
        longer += correlation_time(events, requests) >= 1.5
    assert longer <= 10  # 5%

"""Types of arrays that the statistics take and give."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Single = NDArray[np.float32]  # log likelihoods over a grid, which are many and need no more digits
Rows = NDArray[np.bool_]
Indices = NDArray[np.intp]

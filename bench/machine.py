"""What the numbers were measured on, in words."""

import os
import sys
from pathlib import Path


def machine() -> str:
    """Cores that may be used, their kind, the load there is already, Python."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        "an unnamed processor",
    )
    return (
        f"{len(os.sched_getaffinity(0))} cores of {model}, load {os.getloadavg()[0]:.1f}, Python "
        f"{sys.version.split()[0]}"
    )

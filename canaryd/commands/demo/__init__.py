"""`canaryd demo`: a release and a rollback on a simulated cluster, canaryd_sandbox."""

from importlib.util import find_spec

from canaryd.cli.group import Failure
from canaryd.version import DISTRIBUTION

if find_spec("canaryd_sandbox") is None:
    raise Failure(
        "this installation has no simulated cluster (the package canaryd_sandbox), as the container image: "
        f"install {DISTRIBUTION} with pip"
    )

"""Which version of canaryd this is."""

from importlib import metadata

DISTRIBUTION = "canaryd-istio"  # what pip installs; `canaryd` on the package index is another program


def version() -> str:
    """The installed version, as `0.1.0`."""
    return metadata.version(DISTRIBUTION)

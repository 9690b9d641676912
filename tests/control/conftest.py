"""What the tests of the loop share."""

from collections.abc import Iterator

import pytest
import structlog.testing


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[dict[str, object]]]:
    """Each line as it was logged. Nothing is rendered: a traceback with all locals takes seconds, and one is
    logged at every beat."""
    with structlog.testing.capture_logs() as lines:
        yield lines  # type: ignore[misc]

"""Which pages are generated, and from what."""

from docs_generator import DOCS
from docs_generator.cli_page import cli_page
from docs_generator.crd_page import crd_page
from docs_generator.lifecycle_page import diagram, lifecycle_page
from docs_generator.policy_page import policy_page
from docs_generator.rbac_page import rbac_page
from docs_generator.settings_page import settings_page

PAGES = {
    "reference/policy.md": policy_page,
    "reference/settings.md": settings_page,
    "reference/cli.md": cli_page,
    "reference/crd.md": crd_page,
    "reference/rbac.md": rbac_page,
    "concepts/lifecycle.md": lifecycle_page,
    "images/lifecycle.svg": diagram,
}


def written() -> dict[str, str]:
    """Each generated file below docs/, by its path there, as it should be."""
    return {path: make() for path, make in PAGES.items()}


def stale() -> list[str]:
    """Those that are not there, or not as they should be."""
    return [
        path
        for path, text in written().items()
        if not (DOCS / path).exists() or (DOCS / path).read_text(encoding="utf-8") != text
    ]

"""`python -m docs_generator`: writes the pages that follow from the code; with --check only compares and
checks."""

import sys

from docs_generator import DOCS
from docs_generator.checks import problems
from docs_generator.pages import stale, written


def main(arguments: list[str]) -> int:
    """Exit code 0 where all is well."""
    if "--check" not in arguments:
        for path, text in written().items():
            (DOCS / path).parent.mkdir(parents=True, exist_ok=True)
            (DOCS / path).write_text(text, encoding="utf-8")
    found = [f"docs/{path} is stale: python -m docs_generator writes it" for path in stale()] + problems()
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

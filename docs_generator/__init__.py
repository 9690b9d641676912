"""What the documentation is made with: pages that follow from the code, and checks of those that people
write.

    python -m docs_generator            writes the generated pages into docs/
    python -m docs_generator --check    exit code 1 where a page is stale or says what is not so

The generated pages are committed, although they could be made when the site is built: most readers read
Markdown in the repository, where a link to a page that is not there is dead, and a change of the command line
or of a policy's keys shows in the review as its readers will see it. `tests/docs/test_generated_pages.py`
fails while one is stale.

Nothing here is in the wheel.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

"""Pages that follow from the code are as the code has it, and no page says what is not so."""

from __future__ import annotations

from pathlib import Path

import pytest

from canaryd.domain.lifecycle import TRANSITIONS, Signal
from canaryd.domain.rollout import Phase
from docs_generator import DOCS
from docs_generator.checks import dead_links, headings, problems, said_wrongly
from docs_generator.lifecycle_page import PLACES, SIGNALS, transitions
from docs_generator.pages import stale

TARGETS = frozenset({"demo", "test"})


def test_no_page_is_stale() -> None:
    assert stale() == [], "python -m docs_generator writes them"


def test_no_page_names_a_command_an_option_a_target_or_a_file_that_is_not_there() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("`canaryd lunch`", "canaryd lunch: there is no such command"),
        ("    canaryd status --wach", "canaryd status has no option --wach"),
        (
            "```console\n$ canaryd deploy front-end \\\n  --no-such\n```",
            "canaryd deploy has no option --no-such",
        ),
        ("`kubectl canaryd lunch`", "canaryd lunch: there is no such command"),
        ("`make dinner`", "make dinner: the Makefile has no such target"),
        ("    make test dinner ARGS=lunch", "make dinner: the Makefile has no such target"),
    ],
)
def test_what_is_not_there_is_found(text: str, problem: str) -> None:
    assert [why for _, why in said_wrongly(text, TARGETS)] == [problem]


@pytest.mark.parametrize(
    "text",
    [
        "`canaryd status -o json`, `canaryd reset front-end --to v1 --yes`",
        "    canaryd check front-end    # canaryd lunch is only talked of",
        "    kubectl -n canaryd get pods",
        "```console\n$ canaryd status\ncanaryd lunch\n```",
        "canaryd lunch in a sentence",
        "```yaml\nrun: canaryd lunch\n```",
        '    make test ARGS="-k held"',
    ],
)
def test_what_is_there_or_is_no_command_is_not(text: str) -> None:
    assert list(said_wrongly(text, TARGETS)) == []


def test_dead_links_and_anchors_are_found_with_their_lines(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# A title\n\n## Two `words`\n")
    text = (
        "[a](other.md#two-words)\n[b](other.md#three)\n[c](gone.md) `[d](e.md)`\n[f](https://example.org)\n"
    )
    page.write_text(text)
    assert list(dead_links(page, text)) == [
        (2, "other.md has no heading #three"),
        (3, "gone.md is not there"),
    ]


def test_anchors_are_those_of_the_site() -> None:
    assert headings("# A, b & c\n## 2. One: `two`\n## Same\n## Same\n") == {
        "a-b-c",
        "2-one-two",
        "same",
        "same_1",
    }


def test_the_lifecycle_has_a_place_for_each_phase_and_words_for_each_signal() -> None:
    assert set(PLACES) == set(Phase)
    assert set(SIGNALS) == set(Signal)


def test_every_phase_but_the_first_is_reached_and_every_one_but_the_last_left() -> None:
    drawn = transitions()
    assert {end for _, end in drawn} >= set(Phase) - {Phase.WAITING}
    assert {begin for begin, _ in drawn} == {phase for phase, _ in TRANSITIONS}


def test_every_page_is_in_the_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text().partition("\nnav:")[2]
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert {page for page in pages if page not in navigation} == set()

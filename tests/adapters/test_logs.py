"""Logs as they come out."""

from __future__ import annotations

import io
import json
import logging
import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from canaryd.adapters import logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger(logs.OWN)
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], root.level, own.level = before
    logging.captureWarnings(False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_fact_is_one_json_line_with_its_keys_and_utc_time() -> None:
    out = io.StringIO()
    logs.setup(stream=out)
    structlog.get_logger("canaryd.control").info("rollout.advanced", service="front-end", stage=2, weight=50)
    (line,) = lines(out)
    assert line["time"].endswith("Z")
    del line["time"]
    assert line == {
        "event": "rollout.advanced",
        "level": "info",
        "logger": "canaryd.control",
        "service": "front-end",
        "stage": 2,
        "weight": 50,
    }


def test_an_exception_is_in_the_line_without_local_variables() -> None:
    out = io.StringIO()
    logs.setup(stream=out)
    password = "hunter2"
    try:
        raise RuntimeError(f"refused {len(password)}")
    except RuntimeError:
        structlog.get_logger("canaryd").exception("look.failed")
    (line,) = lines(out)
    assert line["exception"][0]["exc_value"] == "refused 7"
    assert "hunter2" not in out.getvalue()


def test_infinite_odds_still_make_valid_json() -> None:
    out = io.StringIO()
    logs.setup(stream=out)
    structlog.get_logger("canaryd").info(
        "look.judged", odds=math.inf, all=[math.nan, {"low": -math.inf}], of=object
    )
    (line,) = [json.loads(line, parse_constant=pytest.fail) for line in out.getvalue().splitlines()]
    assert (line["odds"], line["all"]) == ("inf", ["nan", {"low": "-inf"}])


@pytest.mark.parametrize("name", ["apscheduler.scheduler", "requests", "kubernetes.client.rest"])
def test_libraries_are_heard_from_warning_on_in_the_same_form(name: str) -> None:
    out = io.StringIO()
    logs.setup("debug", stream=out)
    logging.getLogger(name).info("token %s", "secret")
    logging.getLogger(name).warning("late by %d s", 3)
    (line,) = lines(out)
    assert (line["event"], line["level"], line["logger"]) == ("late by 3 s", "warning", name)


def test_the_level_is_canaryd_s_own() -> None:
    out = io.StringIO()
    logs.setup("warning", stream=out)
    log = structlog.get_logger("canaryd.app")
    log.info("beat.ended")
    log.warning("policy.refused")
    assert [line["event"] for line in lines(out)] == ["policy.refused"]


def test_auto_is_console_on_a_terminal_and_json_elsewhere() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for out in (terminal, pipe):
        logs.setup(stream=out)
        structlog.get_logger("canaryd").info("rollout.begun", service="front-end")
    assert "\x1b[" in terminal.getvalue()
    assert "rollout.begun" in terminal.getvalue()
    assert lines(pipe)[0]["event"] == "rollout.begun"


def test_console_format_in_a_pipe_has_no_colours_and_shows_no_local_variables() -> None:
    out = io.StringIO()
    logs.setup(format="console", stream=out)
    password = "hunter2"
    try:
        raise RuntimeError(f"refused {len(password)}")
    except RuntimeError:
        structlog.get_logger("canaryd").exception("look.failed")
    assert "\x1b[" not in out.getvalue()
    assert "RuntimeError: refused 7" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_setting_up_again_replaces_and_does_not_repeat() -> None:
    out = io.StringIO()
    logs.setup(stream=out)
    logs.setup(stream=out)
    structlog.get_logger("canaryd").info("once")
    assert len(lines(out)) == 1


def test_python_warnings_are_logged() -> None:
    out = io.StringIO()
    logs.setup(stream=out)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old call", UserWarning, stacklevel=1)
    assert "old call" in lines(out)[0]["event"]


@pytest.mark.parametrize(("level", "format"), [("loud", "json"), ("info", "xml")])
def test_unknown_words_are_refused(level: str, format: Any) -> None:
    with pytest.raises(ValueError, match=r"must be one of .*, but is (loud|xml)"):
        logs.setup(level, format)

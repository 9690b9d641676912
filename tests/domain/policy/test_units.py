"""Durations and shares: what people write, and the very numbers they mean."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canaryd.domain.policy.units import (
    DURATION_PATTERN,
    SHARE_PATTERN,
    format_duration,
    format_share,
    parse_duration,
    parse_rate,
    parse_share,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("2d", 172800),
        ("1.5s", 1.5),
        ("0s", 0),
        ("1d2h3m4s5ms", 93784.005),
    ],
)
def test_a_duration_is_its_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "90", "s", "-5s", "5x", "1m1h", "1m1m", "1h 30m", "1e3s", ".5s", "٣s", "90s\n", "inf"]
)
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"must be a duration such as 90s, 10m or 1h30m, but is {text!r}")
    ):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (90, "1m30s"),
        (5400, "1h30m"),
        (0.5, "500ms"),
        (86400, "24h"),
        (61.25, "1m1s250ms"),
        (0.0005, "0.5ms"),
    ],
)
def test_seconds_are_written_as_people_write_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_negative_duration_is_not_written() -> None:
    with pytest.raises(ValueError, match="must not be negative, but is -1"):
        format_duration(-1)


@given(st.floats(min_value=0, max_value=1e9, allow_nan=False))
def test_a_written_duration_is_read_back_as_the_very_same_seconds(seconds: float) -> None:
    written = format_duration(seconds)
    assert parse_duration(written) == seconds
    assert re.fullmatch(DURATION_PATTERN, written)


@pytest.mark.parametrize(
    ("text", "share"), [("0.1%", 0.001), ("1%", 0.01), ("100%", 1.0), ("250%", 2.5), ("0%", 0), ("0", 0)]
)
def test_a_share_is_its_fraction(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["", "5", "0.05", "-1%", "1 %", "1%%", "%", "1e1%", "nan%"])
def test_what_is_no_share_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"must be a share such as 0.1% or 25%, but is {text!r}")):
        parse_share(text)


@given(st.floats(min_value=0, max_value=1e3, allow_nan=False))
def test_a_written_share_is_read_back_as_the_very_same_fraction(share: float) -> None:
    written = format_share(share)
    assert parse_share(written) == share
    assert re.fullmatch(SHARE_PATTERN, written)


@pytest.mark.parametrize(
    ("text", "rate"), [("50/s", 50.0), ("0.5/s", 0.5), ("3000/m", 50.0), ("1800/h", 0.5), ("0/s", 0.0)]
)
def test_a_rate_is_its_events_per_second(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "50", "50s", "50/", "/s", "50/d", "-1/s", "50 /s", "1e3/s"])
def test_what_is_no_rate_is_refused_by_name(text: str) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"must be a rate such as 50/s, 3000/m or 200/h, but is {text!r}")
    ):
        parse_rate(text)

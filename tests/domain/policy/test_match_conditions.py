# ruff: noqa: E501  (a refusal stands on one line, as people read it)

"""Which conditions a policy may name, and which mistakes in them are refused where people wrote them."""

from __future__ import annotations

from typing import Any

import pytest

from canaryd.domain.policy.match_conditions import described
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.re2 import refused
from canaryd.domain.policy.validation import InvalidPolicy
from tests.builders import a_policy

LAST = {"weight": 100}


def matching(*stages: Any, **more: Any) -> Policy:
    return a_policy(stages=[*stages, LAST], **more)


def problems(*stages: Any, **more: Any) -> list[str]:
    with pytest.raises(InvalidPolicy) as refusal:
        matching(*stages, **more)
    return str(refusal.value).splitlines()


SEED = {"headers": {"cookie": {"regex": ".*logged_in.*"}}}
CHROME = {"headers": {"user-agent": {"regex": ".*Chrome.*"}}}


def test_one_match_is_a_list_of_one_and_both_are_kept_as_istio_has_them() -> None:
    one, listed = matching({"match": SEED}), matching({"match": [SEED]})
    assert one.stages == listed.stages
    assert one.dump()["stages"][0]["match"] == [SEED]
    assert Policy.load(one.dump()) == one


def test_every_condition_of_istio_that_a_user_can_meet_is_taken() -> None:
    match = {
        "headers": {"x-a": {"exact": "1"}, "x-b": {"prefix": "2"}},
        "withoutHeaders": {"x-c": {"regex": "3"}},
        "queryParams": {"debug": {"exact": ""}},
        "sourceLabels": {"app": "orders"},
    }
    [found] = matching({"match": match}).stages[0].match
    assert found.istio == match
    assert described([match, SEED]) == (
        "x-a = 1 and x-b ^ 2 and not x-c ~ 3 and query debug = and from app=orders, or cookie ~ .*logged_in.*"
    )


@pytest.mark.parametrize(
    ("match", "says"),
    [
        (
            {"headers": {"cookie": None, "regex": ".*logged_in.*"}},
            "match.headers.regex must stand below the name of what is matched, not beside it: indent it further, as "
            "{NAME: {regex: .*logged_in.*}}",
        ),
        (
            {"headers": {"Cookie": {"exact": "a"}}},
            "match.headers.Cookie must be lower case, as Istio compares header names, but is 'Cookie': "
            "write cookie",
        ),
        (
            {"headers": {"x canary": {"exact": "a"}}},
            "match.headers.x canary must be a header's name, such as cookie or x-canary, but is 'x canary'",
        ),
        (
            {"headers": {"method": {"exact": "GET"}}},
            "match.headers.method must be a header: Istio ignores uri, scheme, method, authority among "
            "headers, and every request would match",
        ),
        (
            {"headers": {"x-canary": "always"}},
            "match.headers.x-canary must be a map with one of exact, prefix, regex, but is 'always': write "
            "{exact: always}",
        ),
        (
            {"headers": {"x": {"exact": "a", "prefix": "b"}}},
            "match.headers.x must have one of exact, prefix, regex, but has exact and prefix",
        ),
        ({"headers": {"x": {}}}, "match.headers.x must have one of exact, prefix, regex, but has none"),
        ({"headers": {"x": {"exact": ""}}}, "match.headers.x.exact must not be empty"),
        (
            {"headers": {"x": {"suffix": "a"}}},
            "match.headers.x.suffix is not known here, wanted one of exact, prefix, regex",
        ),
        (
            {"headers": {"x": {"regex": "a(?=b)"}}},
            "match.headers.x.regex must be an RE2 expression, as Envoy reads it, but has an error: lookaround ((?=)",
        ),
        (
            {"uri": {"prefix": "/"}},
            "match.uri is not known here, wanted one of headers, withoutHeaders, queryParams, sourceLabels",
        ),
        (
            {},
            "match must have a condition (headers, withoutHeaders, queryParams or sourceLabels), but has none: every request would match",
        ),
        ([], "match must have at least one match, but is an empty list"),
        ([SEED, SEED], "match[1] must be listed only once, but equals an earlier one"),
        (
            [SEED, {"headers": {"X": {"exact": "a"}}}],
            "match[1].headers.X must be lower case, as Istio compares header names, but is 'X': write x",
        ),
        ("cookie", "match must be a list, such as [a, b], but is 'cookie'"),
    ],
)
def test_mistakes_in_a_match_are_told_at_the_key_that_people_wrote(match: Any, says: str) -> None:
    assert f"stages[0].{says}" in problems({"match": match})


def test_split_in_a_match_is_told_where_it_belongs() -> None:
    [said] = problems({"match": {**SEED, "split": "half"}})
    assert (
        said
        == "stages[0].match.split must stand beside match and not in it, since it applies to all of its conditions: {match: ..., split: half}"
    )


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        (
            [{"minimum": "2m"}],
            "stages[0].weight is missing, wanted: The canary's share of the traffic in per cent, 0 to 100. At 0 the "
            "canary is dark: no user is sent to it by weight. May be left out where match or mirror is set.",
        ),
        (
            [{"mirror": "20%", "weight": 5}],
            "stages[0].mirror must be at weight 0, so that the canary serves only copies, but is at weight 5; "
            "make two stages of it",
        ),
        (
            [{"mirror": "20%", "match": SEED}],
            "stages[0].mirror must be without match, since copies are taken from all users' requests and not "
            "from matched ones, but is set together with match; make two stages of it",
        ),
        ([{"mirror": "0%"}], "stages[0].mirror must be above 0%, but is 0%"),
        (
            [{"mirror": "0.00009%"}],
            "stages[0].mirror must be at least 0.0001%, the smallest share that proxies draw, but is 0.00009%",
        ),
        ([{"mirror": "101%"}], "stages[0].mirror must be at most 100%, but is 101%"),
        (
            [{"mirror": 20}],
            "stages[0].mirror must be a share such as 0.1% or 25%, but is 20: write 2000% or 20%",
        ),
        (
            [{"weight": 0}, {"match": SEED}, {"weight": 0}],
            "stages[2] must differ from the stages before it, but equals stages[0] (dark)",
        ),
        (
            [{"match": SEED}, {"match": [SEED]}],
            "stages[1] must differ from the stages before it, but equals stages[0] (cookie ~ .*logged_in.*)",
        ),
        (
            [{"weight": 10}, {"match": SEED}],
            "stages[1].weight must be above the stage before it (10), but is 0: stages without a weight come "
            "first",
        ),
        (
            [{"match": SEED, "weight": 10}, {"weight": 10}],
            "stages[1].weight must be above the stage before it (10), but is 10",
        ),
    ],
)
def test_ladders_that_make_no_sense_are_refused(stages: list[Any], says: str) -> None:
    assert problems(*stages) == [says]


def test_a_match_at_full_weight_is_refused() -> None:
    with pytest.raises(
        InvalidPolicy,
        match=r"stages\[0\]\.match must be left out at weight 100, where all requests go to the canary",
    ):
        a_policy(stages=[{"weight": 100, "match": SEED}])


def test_a_ladder_must_end_with_all_traffic_also_where_no_stage_has_a_weight() -> None:
    with pytest.raises(
        InvalidPolicy,
        match=r"stages\[1\]\.weight must be 100, since a ladder ends with all traffic, but is 0",
    ):
        a_policy(stages=[{"weight": 0}, {"match": SEED}])


def test_what_only_observes_steers_no_one() -> None:
    route = {"virtualService": "sockshop", "preview": SEED}
    assert problems(
        {"weight": 0}, {"match": SEED}, {"mirror": "5%"}, {"weight": 10}, mode="observe", route=route
    ) == [
        "stages[0].weight must be above 0 with mode: observe, where canaryd keeps no version dark, but is 0",
        "stages[1].match must be left out with mode: observe, where canaryd adds no route, but is set",
        "stages[2].mirror must be left out with mode: observe, where canaryd adds no route, but is set",
        "route.preview must be left out with mode: observe, where canaryd adds no route, but is set",
    ]


def test_copies_are_refused_where_callers_count() -> None:
    assert problems({"mirror": "5%"}, analysis={"interval": "10s", "reporter": "source"}) == [
        "stages[0].mirror must be left out with analysis.reporter: source, since callers do not count copies, but is set"
    ]


def test_names_of_canaryd_s_own_routes_cannot_be_steered() -> None:
    assert problems(
        {"weight": 10}, route={"virtualService": "sockshop", "http": ["canaryd-front-end-match"]}
    ) == [
        "route.http[0] must not begin with canaryd-, as the routes that canaryd adds do, but is canaryd-front-end-match"
    ]


@pytest.mark.parametrize(
    ("stage", "kind", "promised", "said", "short", "how"),
    [
        ({"weight": 10}, "weight", 10, "10%", "10%", "at 10%"),
        ({"weight": 0}, "dark", 0, "dark", "dark", "dark"),
        ({"mirror": "25%"}, "mirror", 20, "25% mirrored", "25% mirrored", "with 25% mirrored"),
        ({"match": SEED}, "match", 0, "cookie ~ .*logged_in.*", "match", "for cookie ~ .*logged_in.*"),
        (
            {"match": SEED, "weight": 5},
            "match",
            5,
            "cookie ~ .*logged_in.*; 5% of others",
            "match, 5%",
            "for cookie ~ .*logged_in.*; 5% of others",
        ),
    ],
)
def test_each_stage_says_who_gets_the_canary(
    stage: Any, kind: str, promised: float, said: str, short: str, how: str
) -> None:
    found = matching(stage).stages[0]
    assert (found.kind, found.promised, found.said, found.short, found.how) == (
        kind,
        pytest.approx(promised),
        said,
        short,
        how,
    )


@pytest.mark.parametrize(
    "expression",
    [
        ".*logged_in.*",
        "(?i)chrome",
        r"a{2,1000}",
        "[[:alpha:]]+",
        r"\pL+\p{Greek}",
        r"\Qa.b(\E",
        "(?P<n>x)",
        "(?<n>x)",
        r"a\z",
        r"\\1",
        "[(?=]",
        r"[]a]",
        r"(?U)a+",
        r"[^[:space:]\d]+",
        r"\d+\.\d+",
        r"\x{10FFFF}",
        r"\(?=",
    ],
)
def test_what_re2_takes_is_taken(expression: str) -> None:
    assert refused(expression) == ""


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("a(?=b)", "lookaround"),
        ("a(?!b)", "lookaround"),
        ("(?<=a)b", "lookaround"),
        ("(?<!a)b", "lookaround"),
        (r"(a)\1", "a backreference"),
        ("(?P<n>a)(?P=n)", "a backreference"),
        (r"(?P<n>a)\k<n>", "a backreference"),
        ("(?>a)", "an atomic group"),
        ("a*+", "a possessive"),
        ("a{2}+", "a possessive"),
        ("(a)(?(1)b)", "a conditional"),
        ("(?#c)a", "a comment"),
        (r"a\Z", r"the escape \Z"),
        ("a{1001}", "more than 1,000"),
        ("(a|b", "missing )"),
        ("a**", "multiple repeat"),
        ("*a", "nothing to repeat"),
        ("[a-z", "unterminated character set"),
        ("a\\", "bad escape"),
        ("x{2,1}", "min repeat"),
    ],
)
def test_what_re2_does_not_take_is_refused_by_its_name(expression: str, why: str) -> None:
    assert refused(expression).startswith(why)

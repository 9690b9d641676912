"""The shapes of YAML on the use case's page, right and as they are usually copied: all are understood, and
the wrong ones are told."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from canaryd.adapters import manifest_files
from canaryd.commands.check.finding import as_yaml
from canaryd.commands.check.lost_indentation import restored
from canaryd.commands.check.lost_match_indentation import of, repaired
from canaryd.commands.check.offline_facts import facts_of, understood
from canaryd.domain.check_facts import ManifestMistake
from tests.builders import HOST
from tests.commands.check.facts import a_route, a_world, only

HEAD = "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\n"
COOKIE, CHROME = ("cookie", ".*logged_in.*"), ("user-agent", ".*Chrome.*")


def right(header: str = "cookie", regex: str = ".*logged_in.*") -> str:
    """As it has to be."""
    return HEAD + textwrap.dedent(f"""\
        metadata:
          name: sockshop
        spec:
          hosts:
          - "*"
          gateways:
          - sockshop-gateway
          http:
          - match:
            - headers:
                {header}:
                  regex: "{regex}"
            route:
            - destination:
                host: {HOST}
                subset: v2
          - route:
            - destination:
                host: {HOST}
                subset: v1
        """)


def as_on_the_page(header: str = "cookie", regex: str = ".*logged_in.*") -> str:
    """Copied from the use case: what stood below metadata and spec is beside them, and `route` beside `-
    headers`."""
    return HEAD + textwrap.dedent(f"""\
        metadata:
        name: sockshop
        spec:
        hosts:
        - "*"
        gateways:
        - sockshop-gateway
        http:
        - match:
            - headers:
                {header}:
                regex: "{regex}"
            route:
            - destination:
                host: {HOST}
                subset: v2
        - route:
            - destination:
                host: {HOST}
                subset: v1
        """)


def flat(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines()) + "\n"


def half(text: str) -> str:
    """Only the condition has slipped: the rest is as it has to be."""
    return text.replace("          regex:", "        regex:")


def read(tmp_path: Path, text: str) -> tuple[Any, ManifestMistake | None]:
    path = tmp_path / "route.yaml"
    path.write_text(text)
    (document,) = manifest_files.read([path])
    return understood(document)


@pytest.mark.parametrize(("header", "regex"), [COOKIE, CHROME])
def test_the_right_shape_is_read_as_it_is(tmp_path: Path, header: str, regex: str) -> None:
    text = right(header, regex)
    assert read(tmp_path, text) == (yaml.safe_load(text), None)
    made = restored(text)
    assert made is not None
    assert (made.data, made.misplaced) == (yaml.safe_load(text), ())


@pytest.mark.parametrize(("header", "regex"), [COOKIE, CHROME])
@pytest.mark.parametrize(
    "lose",
    [
        as_on_the_page,
        lambda header, regex: flat(right(header, regex)),
        lambda header, regex: half(right(header, regex)),
        lambda header, regex: flat(as_on_the_page(header, regex)),
    ],
    ids=["as on the page", "all of it", "the condition", "all of the page's"],
)
def test_lost_indentation_is_told_with_its_line_and_the_document_as_it_was_meant(
    tmp_path: Path, lose: Any, header: str, regex: str
) -> None:
    obj, flaw = read(tmp_path, lose(header, regex))
    meant = yaml.safe_load(right(header, regex))
    assert obj == meant
    assert flaw is not None
    assert yaml.safe_load(flaw.mended) == meant
    first = flaw.line - 1
    assert flaw.file.endswith("route.yaml")
    assert lose(header, regex).splitlines()[first].strip().split(":")[0] in ("name", "regex")
    assert "`regex` does not stand below" in flaw.found


def test_the_line_is_the_file_s_also_in_a_later_document(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(f"# two of them\n---\n{right()}---\n{as_on_the_page()}")
    first, second = manifest_files.read([path])
    assert understood(first)[1] is None
    flaw = understood(second)[1]
    assert flaw is not None
    assert path.read_text().splitlines()[flaw.line - 1] == "name: sockshop"


@pytest.mark.parametrize(
    "text",
    [
        HEAD.replace("VirtualService", "DestinationRule")
        + f"metadata:\nname: front-end\nspec:\nhost: {HOST}\nsubsets:\n- name: v1\nlabels:\n"
        "version: v1\n- name: v2\nlabels:\nversion: v2\n",
        HEAD.replace("VirtualService", "Gateway")
        + "metadata:\nname: g\nspec:\nselector:\nistio: ingressgateway\nservers:\n- port:\nnumber: 80\n"
        'name: http\nprotocol: HTTP\nhosts:\n- "*"\n',
    ],
)
def test_rules_and_gateways_are_put_together_as_well(tmp_path: Path, text: str) -> None:
    obj, flaw = read(tmp_path, text)
    assert flaw is not None
    assert obj["metadata"]["name"] in ("front-end", "g")
    if obj["kind"] == "DestinationRule":
        assert obj["spec"]["subsets"] == [
            {"name": name, "labels": {"version": name}} for name in ("v1", "v2")
        ]
    else:
        assert obj["spec"]["servers"] == [
            {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
        ]


def test_a_header_that_has_the_name_of_a_key_stays_one_where_it_stands_below(tmp_path: Path) -> None:
    text = right().replace("        cookie:\n", "        uri:\n")
    made = restored(text)
    assert made is not None
    assert made.data == yaml.safe_load(text)


def test_weights_lists_of_conditions_and_comments_are_kept(tmp_path: Path) -> None:
    text = (
        flat(right())
        .replace(
            "subset: v2\n",
            "subset: v2 #v2\nweight: 10\n- destination:\nhost: front-end\nsubset: v1\nweight: 90\n",
        )
        .replace('regex: ".*logged_in.*"\n', "regex: '.*logged_in.*'\n- uri:\nprefix: /new\n")
    )
    obj, _ = read(tmp_path, text)
    first = obj["spec"]["http"][0]
    assert [(one["destination"]["subset"], one["weight"]) for one in first["route"]] == [
        ("v2", 10),
        ("v1", 90),
    ]
    assert first["match"] == [
        {"headers": {"cookie": {"regex": ".*logged_in.*"}}},
        {"uri": {"prefix": "/new"}},
    ]


@pytest.mark.parametrize(
    "text", ["kind: VirtualService\n  a: b: c\n", "a: [1, 2\n", "- just\n- a list\n", "\ta: b\n", "text\n"]
)
def test_what_cannot_be_put_together_is_told_with_its_line_and_nothing_is_made_up(
    tmp_path: Path, text: str
) -> None:
    obj, flaw = read(tmp_path, text)
    assert obj is None
    assert flaw is not None
    assert (flaw.mended, flaw.line >= 1) == ("", True)


def test_one_document_that_cannot_be_read_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(f"a: [1\n---\n{right()}")
    facts = facts_of(manifest_files.read([path]), [], None, "cluster.local")
    assert [item["metadata"]["name"] for item in facts.of("VirtualService").items] == ["sockshop"]
    assert [flaw.line for flaw in facts.flaws] in ([1], [2])


def test_objects_without_a_namespace_are_where_their_host_is(tmp_path: Path) -> None:
    path = tmp_path / "route.yaml"
    path.write_text(right())
    facts = facts_of(manifest_files.read([path]), [], None, "cluster.local")
    assert [item["metadata"]["namespace"] for item in facts.of("VirtualService").items] == ["production"]
    assert [policy.key for policy in facts.policies] == [("production", "front-end")]
    elsewhere = facts_of(manifest_files.read([path]), [], "staging", "cluster.local")
    assert [item["metadata"]["namespace"] for item in elsewhere.of("VirtualService").items] == ["staging"]


# ---------------------------------------------------------------- what an API server has


@pytest.mark.parametrize(
    ("match", "meant"),
    [
        ({"headers": {"cookie": None, "regex": "x"}}, {"headers": {"cookie": {"regex": "x"}}}),
        ({"headers": {"cookie": {}, "regex": "x"}}, {"headers": {"cookie": {"regex": "x"}}}),
        (
            {"headers": {"a": {"exact": "1"}, "cookie": None, "prefix": "x"}},
            {"headers": {"a": {"exact": "1"}, "cookie": {"prefix": "x"}}},
        ),
        ({"queryParams": {"beta": None, "exact": "1"}}, {"queryParams": {"beta": {"exact": "1"}}}),
        ({"headers": None, "cookie": None, "regex": "x"}, {"headers": {"cookie": {"regex": "x"}}}),
        ({"uri": None, "prefix": "/x"}, {"uri": {"prefix": "/x"}}),
    ],
)
def test_a_condition_beside_its_name_is_put_below_it(match: Any, meant: Any) -> None:
    assert repaired(match) == meant
    (found,) = of(a_route({"match": [match], "route": []}))
    assert found.check == "matches.indent"
    assert yaml.safe_load(found.mend) == {"match": [meant]}


@pytest.mark.parametrize(
    "match",
    [
        {"headers": {"cookie": {"regex": "x"}}},
        {"headers": {"regex": {"exact": "a header of this name"}}},
        {"uri": {"prefix": "/"}},
        {},
        {
            "headers": {"cookie": {"regex": "x"}, "prefix": {"exact": "y"}},
            "queryParams": {"exact": {"exact": "1"}},
        },
    ],
)
def test_a_right_condition_is_left_alone(match: Any) -> None:
    assert repaired(match) == match
    assert list(of(a_route({"match": [match], "route": []}))) == []


def test_an_empty_condition_is_any_request_with_the_header_and_said_so() -> None:
    http = [
        {"match": [{"headers": {"cookie": {}}}], "route": [{"destination": {"host": HOST, "subset": "v1"}}]},
        {"route": [{"destination": {"host": HOST, "subset": "v1"}}]},
    ]
    found = only(a_world({"VirtualService": [a_route(*http)]}), "matches.empty")
    assert "takes every request that has the header at all" in found.found
    assert "regex: .*logged_in.*" in found.mend


def test_yaml_reads_back_as_what_it_was() -> None:
    data = {
        "a": ["*", ".*x.*", "yes", "Off", "010", "1:30", "1", 1, True, None, "with: colon", "# no comment"],
        "b": {"c": "x" * 200},
    }
    assert yaml.safe_load(as_yaml(data, "somewhere")) == data

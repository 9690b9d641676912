"""Policy files: every problem with file and line, one document at a time; and hot reload that never loses a
good policy."""

import json
import os
from pathlib import Path

import jsonschema
import pytest

from canaryd.adapters.policies.policy_files import PolicyFiles, json_schema, load, read_document
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.validation import InvalidPolicy

ROOT = Path(__file__).parents[3]

GOOD = """\
service:
  name: {name}
  namespace: production
  selector: {{app: front-end}}
route:
  virtualService: sockshop
stages:
  - weight: 10
  - weight: {weight}
  - weight: 100
"""


def a_policy(name: str = "front-end", weight: object = 25) -> str:
    return GOOD.format(name=name, weight=weight)


def write(directory: Path, text: str | bytes, name: str = "front-end.yaml") -> Path:
    path = directory / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(path: Path, notifiers: list[str] | None = None) -> list[str]:
    return [str(problem) for problem in load(path, notifiers).problems]


def names(policies: tuple[Policy, ...]) -> list[str]:
    return [policy.service.name for policy in policies]


def test_the_schema_that_editors_find_beside_the_policies_is_the_present_one() -> None:
    published = json.loads((ROOT / "policies" / "policy.schema.json").read_text())
    assert published == json_schema(), "canaryd schema > policies/policy.schema.json"


def test_the_worked_example_is_a_policy_without_problems() -> None:
    loaded = load(ROOT / "policies")
    assert loaded.problems == ()
    (policy,) = loaded.policies
    assert policy.key == ("production", "front-end")
    assert policy.route.virtual_service == "sockshop"
    assert [stage.weight for stage in policy.stages] == [10, 25, 50, 100]


def test_what_the_worked_example_calls_its_default_is_the_default() -> None:
    policy = load(ROOT / "policies" / "front-end.yaml").policies[0]
    shortest = Policy.load(
        {
            "service": policy.service.model_dump(by_alias=True),
            "route": {"virtualService": "sockshop"},
            "stages": [{"weight": 100}],
        }
    )
    ours, default = policy.dump(), shortest.dump()
    for part in ("version", "service", "route", "mode", "rollback", "promotion", "drift", "hooks"):
        assert ours[part] == default[part]
    assert policy.analysis.errors is not None
    assert policy.analysis.latency is not None
    del ours["analysis"]["metrics"][0]["errors"]["max"]
    ours["analysis"]["metrics"][1]["latency"]["slo"] = {}
    assert ours["analysis"] == default["analysis"]
    assert ours["stages"][0] == {
        "weight": 10,
        "minimum": default["stages"][0]["minimum"],
        "deadline": default["stages"][0]["deadline"],
    }


def test_a_refusal_names_file_line_and_key(tmp_path: Path) -> None:
    path = write(tmp_path, a_policy(weight=10))
    assert problems(tmp_path) == [
        f"{path}:9: stages[1].weight must be above the stage before it (10), but is 10"
    ]


def test_a_key_that_is_missing_is_placed_at_the_map_that_misses_it(tmp_path: Path) -> None:
    path = write(tmp_path, a_policy().replace("  namespace: production\n", ""))
    assert problems(path) == [f"{path}:1: service.namespace is missing, wanted: Its namespace."]


def test_all_problems_of_all_files_come_at_once_in_their_order(tmp_path: Path) -> None:
    first = write(
        tmp_path, a_policy("carts", weight=101).replace("10\n", "-1\n", 1) + "mode: watch\n", "a.yaml"
    )
    second = write(tmp_path, "stages: [", "b.yml")
    good = write(tmp_path, a_policy("orders"), "c.yaml")
    assert good.exists()
    loaded = load(tmp_path)
    assert [(problem.file, problem.line) for problem in loaded.problems] == [
        (str(first), 8),
        (str(first), 9),
        (str(first), 11),
        (str(second), 1),
    ]
    assert names(loaded.policies) == ["orders"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "must be a map of keys and values, but is empty"),
        ("# nothing\n", 1, "must be a map of keys and values, but is empty"),
        ("- a\n- b\n", 1, "must be a map of keys and values, but is a list of 2"),
        ("policy\n", 1, "must be a map of keys and values, but is 'policy'"),
        ("a: 1\n---\nb: 2\n", 3, "must have one document, but has 2, separated by ---"),
        ("a: 1\nb:\n\tc: 2\n", 3, "is not YAML: found character '\\t' that cannot start any token"),
        ("a: 1\nb: [1, 2\n", 3, "is not YAML: "),
        ("a: 1\nb: 2\na: 3\n", 3, "a must be set only once, but is on line 1 too"),
        ("a:\n  b: 1\n  b: 2\n", 3, "a.b must be set only once, but is on line 2 too"),
        ("a: &x\n  b: *x\n", 1, "a.b must not contain itself"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "c must have its keys written out, but merges another map (<<)"),
        ("a: " + "[" * 3000 + "\n", 1, "must not be nested so deeply"),
        (
            "a: &a [1]\n"
            + "".join(
                f"b{n}: &{n} [{', '.join(['*' + (str(n - 1) if n else 'a')] * 9)}]\n" for n in range(9)
            ),
            1,
            "must have at most 10000 values",
        ),
        ("a: *nowhere\n", 1, "is not YAML: found undefined alias"),
        ("a: 1\nb: !secret x\n", 2, "b must be a plain value, but is 'x' with the tag !secret"),
        ("1: a\n", 1, "must have text as keys (in quotes where YAML sees a number), but has 1"),
        ("? [a]\n: b\n", 1, "must have text as keys (in quotes where YAML sees a number), but has a map"),
        (b"a: 1\nb: \xff\n", 2, "must be UTF-8 text, but has the byte 0xff"),
        ("a: 1\nb: \x00\n", 1, "is not YAML: "),
    ],
)
def test_what_is_no_yaml_map_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, line: int, message: str
) -> None:
    path = write(tmp_path, text)
    (problem, *more) = problems(path)
    assert problem.startswith(f"{path}:{line}: {message}")
    assert not more


def test_dates_are_text_and_marks_at_the_beginning_do_no_harm(tmp_path: Path) -> None:
    document = read_document(write(tmp_path, b"\xef\xbb\xbfa: 2026-01-31\non: yes\nb: 0x10\n"))
    assert document.data == {"a": "2026-01-31", "on": "yes", "b": 16}
    assert document.lines["on",] == 2


def test_a_file_or_directory_that_is_not_there_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    assert problems(tmp_path / "none") == [f"{tmp_path / 'none'}: cannot be read: No such file or directory"]
    assert problems(tmp_path) == [f"{tmp_path}: must have policies (*.yaml), but has none"]
    (tmp_path / "a.yaml").symlink_to(tmp_path / "gone")
    assert problems(tmp_path) == [f"{tmp_path / 'a.yaml'}: cannot be read: No such file or directory"]
    with pytest.raises(InvalidPolicy, match="cannot be read"):
        read_document(tmp_path / "a.yaml")


def test_two_files_about_one_service_are_one_too_many(tmp_path: Path) -> None:
    first, second = (
        write(tmp_path, a_policy(), "a.yaml"),
        write(tmp_path, "# the same\n" + a_policy(weight=50), "b.yaml"),
    )
    assert problems(tmp_path) == [
        f"{second}:3: service.name must be the only policy of production/front-end, but {first}:2 is one too"
    ]
    assert [policy.stages[1].weight for policy in load(tmp_path).policies] == [25]


def test_broken_promql_and_unknown_notifiers_are_told_with_their_lines(tmp_path: Path) -> None:
    query = "analysis:\n  metrics:\n    - query:\n        name: cpu\n        promql: sum(x\n        max: 1\n"
    path = write(tmp_path, a_policy() + query + "hooks:\n  - on: [held]\n    notify: oncal\n")
    assert problems(path, ["oncall"]) == [
        f"{path}:15: analysis.metrics[0].query.promql must be PromQL, but is not: unclosed left parenthesis",
        f"{path}:19: hooks[0].notify must be a notifier of the settings (oncall), but is 'oncal'",
    ]
    assert len(problems(path)) == 1


def test_gates_that_the_settings_do_not_have_are_told_with_their_line(tmp_path: Path) -> None:
    hooks = "hooks:\n  - {before: start, gate: https://tests.example}\n  - {before: promotion, gate: smok}\n"
    path = write(tmp_path, a_policy() + hooks)
    assert [str(problem) for problem in load(path, (), ("smoke",)).problems] == [
        f"{path}:13: hooks[1].gate must be a URL or a gate of the settings (smoke), but is 'smok'"
    ]
    assert not load(path).problems


def test_queries_that_are_not_about_the_rollout_are_told_with_their_lines(tmp_path: Path) -> None:
    queries = """analysis:
  metrics:
    - query: {name: cpu, promql: 'sum(cpu)', max: 1}
    - query:
        name: memory
        promql: 'sum(memory{namespace="$namespace"})'
        compare: higher-is-worse
    - query:
        name: queue
        promql: 'max(queue{pod=~"$canary_pods"})'
        compare: higher
        dryRun: maybe
"""
    path = write(tmp_path, a_policy() + queries)
    scope = 'must be about this rollout in every selector (pod=~"$canary_pods", pod=~"$stable_pods" or namespace="$namespace")'  # noqa: E501
    assert problems(path) == [
        f"{path}:13: analysis.metrics[0].query.promql {scope}, but selects the whole cluster: cpu",
        f"{path}:16: analysis.metrics[1].query.promql must have $canary_pods, which is replaced by stable's "
        "pods for the comparison, but does not have it",
        f"{path}:21: analysis.metrics[2].query.compare must be 'higher-is-worse' or 'lower-is-worse', but is "
        "'higher'",
        f"{path}:22: analysis.metrics[2].query.dryRun must be true or false, but is 'maybe'",
    ]


def test_a_refresh_tells_each_change_once(tmp_path: Path) -> None:
    files = PolicyFiles(tmp_path)
    assert not files.refresh()
    path = write(tmp_path, a_policy())
    assert names(files.refresh().added) == ["front-end"]
    assert not files.refresh()
    write(tmp_path, a_policy(weight=50))
    changes = files.refresh()
    assert [policy.stages[1].weight for policy in changes.changed] == [50]
    assert not changes.added
    write(tmp_path, "# a comment\n" + a_policy(weight=50))
    assert not files.refresh()
    path.unlink()
    assert names(files.refresh().removed) == ["front-end"]
    assert files.policies == ()
    assert not files.refresh()


def test_a_file_that_turned_bad_keeps_its_last_good_policy_until_it_is_mended(tmp_path: Path) -> None:
    files = PolicyFiles(tmp_path)
    path = write(tmp_path, a_policy(weight=25))
    files.refresh()
    write(tmp_path, a_policy(weight=5))
    changes = files.refresh()
    assert [str(problem) for problem in changes.refused] == [
        f"{path}:9: stages[1].weight must be above the stage before it (10), but is 5"
    ]
    assert changes.kept == (str(path),)
    assert [policy.stages[1].weight for policy in files.policies] == [25]
    assert not files.refresh()
    write(tmp_path, a_policy(weight=6))
    assert len(files.refresh().refused) == 1
    write(tmp_path, a_policy(weight=30))
    changes = files.refresh()
    assert changes.mended == (str(path),)
    assert [policy.stages[1].weight for policy in changes.changed] == [30]


def test_a_bad_new_file_keeps_nothing_and_hurts_no_other(tmp_path: Path) -> None:
    files = PolicyFiles(tmp_path)
    write(tmp_path, a_policy("carts"), "carts.yaml")
    write(tmp_path, "stages: 3", "bad.yaml")
    changes = files.refresh()
    assert names(changes.added) == ["carts"]
    assert changes.kept == ()
    assert {problem.file for problem in changes.refused} == {str(tmp_path / "bad.yaml")}
    (tmp_path / "bad.yaml").unlink()
    assert not files.refresh()


def test_a_bad_file_that_goes_away_takes_its_last_good_policy_along(tmp_path: Path) -> None:
    files = PolicyFiles(tmp_path)
    path = write(tmp_path, a_policy())
    files.refresh()
    write(tmp_path, "{")
    files.refresh()
    path.unlink()
    assert names(files.refresh().removed) == ["front-end"]


def test_a_second_file_about_a_service_does_not_oust_the_one_in_force(tmp_path: Path) -> None:
    files = PolicyFiles(tmp_path)
    old = write(tmp_path, a_policy(weight=25), "z.yaml")
    files.refresh()
    new = write(tmp_path, a_policy(weight=50), "a.yaml")
    changes = files.refresh()
    assert [problem.file for problem in changes.refused] == [str(new)]
    assert not changes.changed
    assert not files.refresh()
    old.unlink()
    changes = files.refresh()
    assert [policy.stages[1].weight for policy in changes.changed] == [50]
    assert changes.mended == (str(new),)


def test_two_files_may_swap_their_services_and_one_may_be_renamed(tmp_path: Path) -> None:
    files = PolicyFiles(tmp_path)
    write(tmp_path, a_policy("carts"), "a.yaml")
    write(tmp_path, a_policy("orders"), "b.yaml")
    files.refresh()
    write(tmp_path, a_policy("orders"), "a.yaml")
    write(tmp_path, a_policy("carts"), "b.yaml")
    assert not files.refresh()
    assert names(files.policies) == ["orders", "carts"]
    (tmp_path / "b.yaml").rename(tmp_path / "c.yaml")
    assert not files.refresh()


def test_a_directory_that_cannot_be_listed_changes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "policies"
    directory.mkdir()
    files = PolicyFiles(directory)
    path = write(directory, a_policy())
    files.refresh()
    directory.rename(tmp_path / "away")
    changes = files.refresh()
    assert [str(problem) for problem in changes.refused] == [
        f"{directory}: cannot be read: No such file or directory"
    ]
    assert changes.kept == (str(path),)
    assert names(files.policies) == ["front-end"]
    assert not files.refresh()
    (tmp_path / "away").rename(directory)
    assert not files.refresh()


def test_a_config_map_s_swap_of_links_is_seen_and_its_own_files_are_not(tmp_path: Path) -> None:
    """As the kubelet lays a ConfigMap out: ..data is a link to a dated directory, and is replaced by a
    rename."""
    for name, weight in (("..1", 25), ("..2", 50)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, a_policy(weight=weight))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "front-end.yaml").symlink_to("..data/front-end.yaml")
    files = PolicyFiles(tmp_path)
    assert names(files.refresh().added) == ["front-end"]
    times = (tmp_path / "..1" / "front-end.yaml").stat()
    os.utime(tmp_path / "..2" / "front-end.yaml", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert [policy.stages[1].weight for policy in files.refresh().changed] == [50]


def test_the_published_schema_is_one_and_takes_the_worked_example_and_every_dump() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(read_document(ROOT / "policies" / "front-end.yaml").data)
    validator.validate(load(ROOT / "policies").policies[0].dump())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("virtualService", "virtualservice"),
        ("virtualService: sockshop", "virtualService: sockshop\n  httpRoute: shop"),
        ("virtualService: sockshop", "virtualService: sockshop\n  addService: true"),
        ("virtualService: sockshop", "httpRoute: shop\n  addSubset: true"),
        ("virtualService: sockshop", "http: []"),
        ("weight: 25", "weight: '25'"),
        ("weight: 25", "weight: 25\n    minimum: 90"),
        ("weight: 25", "weight: 25\n    minimum: 5 minutes"),
        ("weight: 25", "weight: 25\n    approval: true"),
        ("stages:", "analysis: {falseRollbackRisk: 0.01}\nstages:"),
        ("stages:", "analysis: {metrics: [{errors: {grpcFailures: [BROKEN]}}]}\nstages:"),
        ("stages:", "analysis: {metrics: [{}]}\nstages:"),
        ("stages:", "analysis: {metrics: [{query: }]}\nstages:"),
        ("stages:", "analysis: {metrics: [{errors: {max: }}]}\nstages:"),
        ("stages:", "mode:\nstages:"),
    ],
)
def test_an_editor_sees_by_the_schema_what_would_be_refused(tmp_path: Path, old: str, new: str) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    assert validator.is_valid(read_document(write(tmp_path, a_policy())).data)
    path = write(tmp_path, a_policy().replace(old, new, 1))
    assert not validator.is_valid(read_document(path).data)
    assert problems(path)


@pytest.mark.parametrize("metrics", ["- errors:", "- latency:", "- errors:\n    - latency: {tolerated: 20%}"])
def test_an_editor_takes_a_metric_without_a_value_as_canaryd_does(tmp_path: Path, metrics: str) -> None:
    path = write(tmp_path, a_policy() + f"analysis:\n  metrics:\n    {metrics}\n")
    assert problems(path) == []
    jsonschema.Draft202012Validator(json_schema()).validate(read_document(path).data)


def test_every_key_of_the_schema_is_described_and_no_default_breaks_its_own_rule() -> None:
    schema = json_schema()
    validator = jsonschema.Draft202012Validator
    for part in (schema, *schema["$defs"].values()):
        for name, described in part["properties"].items():
            referred = schema["$defs"].get(described.get("$ref", "").removeprefix("#/$defs/"), {})
            assert described.get("description") or referred.get("description"), name
            if "default" in described:
                validator({**described, "$defs": schema["$defs"]}).validate(described["default"])


# ---------------------------------------------------------------- brackets


def a_bracket(member: str = "carts", promql: str = 'max(cpu{pod=~"$canary_pods"})') -> str:
    """Of front-end and another service."""
    return (
        a_policy()
        + f"""
bracket:
  members:
    - service: {{name: {member}, namespace: production, selector: {{app: {member}}}}}
      route: {{virtualService: sockshop}}
      analysis:
        metrics:
          - errors: {{}}
          - query: {{name: own, promql: '{promql}', max: 1}}
"""
    )


def line_of(path: Path, text: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), start=1) if text in line)


def test_a_service_of_a_bracket_has_no_policy_of_its_own(tmp_path: Path) -> None:
    bracket = write(tmp_path, a_bracket(), "bracket.yaml")
    own = write(tmp_path, a_policy("carts"), "carts.yaml")
    loaded = load(tmp_path)
    assert [policy.keys for policy in loaded.policies] == [
        (("production", "front-end"), ("production", "carts"))
    ]
    wanted = (
        f"must be the only policy of production/carts, but {bracket}:{line_of(bracket, 'name: carts')} is "
        "one too"
    )
    assert [str(problem) for problem in loaded.problems] == [
        f"{own}:{line_of(own, 'name: carts')}: service.name {wanted}"
    ]


def test_a_bracket_that_takes_in_a_service_with_a_policy_is_refused_and_its_last_good_version_kept(
    tmp_path: Path,
) -> None:
    files = PolicyFiles(tmp_path)
    write(tmp_path, a_policy("carts"), "z.yaml")
    write(tmp_path, a_policy(), "a.yaml")
    files.refresh()
    path = write(tmp_path, a_bracket(), "a.yaml")
    changes = files.refresh()
    assert [str(problem).partition(" must")[0] for problem in changes.refused] == [
        f"{path}:{line_of(path, 'name: carts')}: bracket.members[0].service.name"
    ]
    assert changes.kept == (str(path),)
    assert sorted(names(files.policies)) == ["carts", "front-end"]
    assert all(policy.bracket is None for policy in files.policies)
    (tmp_path / "z.yaml").unlink()
    assert [policy.keys[1] for policy in files.refresh().changed] == [("production", "carts")]


def test_promql_of_a_bracket_s_service_is_checked_as_well(tmp_path: Path) -> None:
    path = write(tmp_path, a_bracket(promql='max(cpu{pod=~"$canary_pods"}'), "bracket.yaml")
    [problem] = load(tmp_path).problems
    assert str(problem).startswith(
        f"{path}:{line_of(path, 'query:')}: bracket.members[0].analysis.metrics[1].query.promql "
    )

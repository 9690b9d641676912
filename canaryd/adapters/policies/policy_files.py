"""Reads policy files: `policies/*.yaml` into `Policy` objects, or all problems at once with file and line.

`load` reads them once, for commands such as `canaryd validate`. `PolicyFiles` reads them again and again, for
the daemon, and keeps the last good version of a file that turned bad. Neither raises for a bad file.
`read_document` reads one YAML document with its line numbers; canaryd's own settings are read with it too.
PromQL is checked here (see `promql_rules.py`) and not in the domain, which has no PromQL parser.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from canaryd.adapters.policies.promql_rules import refusal as promql_refusal
from canaryd.domain.policy.fields import is_label_name, without_nones
from canaryd.domain.policy.metrics import Metric
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.units import DURATION_PATTERN, format_duration, format_share
from canaryd.domain.policy.validation import InvalidPolicy, Key, Problem, key_text, shown

_MOST = 10_000  # values in a document; without a limit, aliases of aliases could grow exponentially


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document as plain data (maps, lists, scalars), and the line of each key, from 1."""

    file: str
    data: Any
    lines: Mapping[Key, int]

    def placed(self, problem: Problem) -> Problem:
        """Adds file and line to a problem: those of its key, or of the nearest map around a missing key."""
        key = problem.key
        while key and key not in self.lines:
            key = key[:-1]
        return replace(problem, file=self.file, line=self.lines.get(key, 1))


def read_document(path: Path) -> Document:
    """Reads a file with exactly one YAML document, which must be a map. Raises InvalidPolicy: an unreadable
    file, invalid YAML, a repeated key, an empty document, or several documents."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidPolicy([_unreadable(path, error)]) from error
    return parse_document(content, str(path))


def parse_document(content: bytes, file: str) -> Document:
    """Reads the content of a file, as `read_document`. file: its name, for messages. Raises InvalidPolicy, as
    `read_document`."""
    yaml = YAML(typ="safe", pure=True)
    try:
        nodes = list(yaml.compose_all(content.decode("utf-8-sig")))
        if not nodes or nodes[0] is None:
            raise InvalidPolicy([Problem((), "must be a map of keys and values, but is empty", file, 1)])
        if len(nodes) > 1:
            line = _line(nodes[1]) if nodes[1] is not None else 1
            raise InvalidPolicy(
                [Problem((), f"must have one document, but has {len(nodes)}, separated by ---", file, line)]
            )
        plain = _Plain(yaml, file)
        data = plain.of(nodes[0], ())
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidPolicy(
            [Problem((), f"must be UTF-8 text, but has the byte 0x{content[error.start]:02x}", file, line)]
        ) from error
    except YAMLError as error:
        raise InvalidPolicy([_syntax(error, file)]) from error
    except RecursionError as error:
        raise InvalidPolicy([Problem((), "must not be nested so deeply", file, 1)]) from error
    problems = plain.problems
    if not problems and not isinstance(data, dict):
        problems.append(
            Problem((), f"must be a map of keys and values, but is {shown(data)}", file, _line(nodes[0]))
        )
    if problems:
        raise InvalidPolicy(problems)
    return Document(file, data, plain.lines)


def _unreadable(path: Path, error: OSError) -> Problem:
    return Problem((), f"cannot be read: {error.strerror or error}", str(path))


class _Plain:
    """Turns YAML's nodes into plain data; collects the lines of keys, and what a policy or a settings file
    must not have."""

    def __init__(self, yaml: YAML, file: str) -> None:
        self.yaml, self.file = yaml, file
        self.lines: dict[Key, int] = {}
        self.problems: list[Problem] = []
        self._around: list[Node] = []  # the nodes being read, outermost first

    def of(self, node: Node, key: Key) -> Any:
        self.lines.setdefault(key, _line(node))
        if len(self.lines) > _MOST:
            raise InvalidPolicy(
                [
                    Problem(
                        (),
                        f"must have at most {_MOST} values, counting aliases as often as they are used",
                        self.file,
                        _line(node),
                    )
                ]
            )
        if any(node is outer for outer in self._around):
            return self._refuse(node, key, "must not contain itself (by an alias of a node around it)")
        self._around.append(node)
        try:
            if isinstance(node, MappingNode):
                return self._map(node, key)
            if isinstance(node, SequenceNode):
                return [self.of(entry, (*key, position)) for position, entry in enumerate(node.value)]
            return self._scalar(node, key)
        finally:
            self._around.pop()

    def _map(self, node: MappingNode, key: Key) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first: dict[str, int] = {}
        for name_node, value in node.value:
            name = name_node.value if isinstance(name_node, ScalarNode) else None
            if name is None or str(name_node.tag) != "tag:yaml.org,2002:str":
                merge = str(name_node.tag) == "tag:yaml.org,2002:merge"
                message = (
                    "must have its keys written out, but merges another map (<<)"
                    if merge
                    else "must have text as keys"
                )
                came = "" if merge else f" (in quotes where YAML sees a number), but has {name or 'a map'}"
                self._refuse(name_node, key, message + came)
            elif name in result:
                self._refuse(
                    name_node, (*key, name), f"must be set only once, but is on line {first[name]} too"
                )
            else:
                first[name] = _line(name_node)
                self.lines[*key, name] = first[name]
                result[name] = self.of(value, (*key, name))
        return result

    def _scalar(self, node: Node, key: Key) -> Any:
        try:
            value = self.yaml.constructor.construct_object(node)
        except (YAMLError, ValueError):
            return self._refuse(
                node, key, f"must be a plain value, but is {shown(node.value)} with the tag {node.tag}"
            )
        # YAML's dates are read as text: {version: 2026-01-31} is a label.
        return value if value is None or isinstance(value, str | int | float) else node.value

    def _refuse(self, node: Node, key: Key, message: str) -> None:
        self.problems.append(Problem(key, message, self.file, _line(node)))


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _syntax(error: YAMLError, file: str) -> Problem:
    """The YAML parser's message in one line."""
    if not isinstance(error, MarkedYAMLError):
        return Problem((), f"is not YAML: {' '.join(str(error).split())}", file, 1)
    mark = error.problem_mark or error.context_mark
    says = ", ".join(part for part in (error.problem, error.context) if part)
    hint = ": indent with spaces, not tabs" if r"'\t'" in says else ""
    return Problem((), f"is not YAML: {says}{hint}", file, mark.line + 1 if mark else 1)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What policy files contain, in the order of file names. files: the file of each policy."""

    policies: tuple[Policy, ...] = ()
    problems: tuple[Problem, ...] = ()
    files: tuple[str, ...] = ()


def load(
    path: Path | Sequence[Path],
    notifiers: Collection[str] | None = None,
    gates: Collection[str] | None = None,
) -> Loaded:
    """Reads every policy, and all problems of all files. Raises nothing for bad files.

    path: a file, a directory with *.yaml and *.yml files, or several of these; a file that is given twice, or
    together with its directory, is read once. notifiers, gates: the names that hooks may use; None: any.
    """
    files = PolicyFiles(Path(), notifiers, gates)
    named: dict[Path, Path] = {}  # a resolved path -> the first name by which it was given
    problems: list[Problem] = []
    for place in [path] if isinstance(path, Path) else path:
        try:
            found = _list(place)
        except OSError as error:
            problems.append(_unreadable(place, error))
            continue
        problems += [] if found else [Problem((), "must have policies (*.yaml), but has none", str(place))]
        named = {file.resolve(): file for file in found} | named
    changes = files.read(list(named.values()))
    return Loaded(files.policies, (*problems, *changes.refused), tuple(files.in_force))


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since the last refresh.

    refused: problems of files that turned bad, or are bad in another way than before. kept: those of these
    files whose last good version stays in force. mended: files that were bad and are good now.
    """

    added: tuple[Policy, ...] = ()
    changed: tuple[Policy, ...] = ()
    removed: tuple[Policy, ...] = ()
    refused: tuple[Problem, ...] = ()
    kept: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any((self.added, self.changed, self.removed, self.refused, self.kept, self.mended))


@dataclass(slots=True)
class _File:
    """One file as it was last read. policy: its policy, if that is valid by itself. good: the last version in
    force."""

    digest: bytes = b""
    policy: Policy | None = None
    lines: tuple[int, ...] = ()  # of its services' names
    own: tuple[Problem, ...] = ()  # within the file
    problems: tuple[Problem, ...] = ()  # the same, and those among files
    good: Policy | None = None
    good_lines: tuple[int, ...] = field(default=())


class PolicyFiles:
    """The policies in force, from a directory's *.yaml and *.yml files (or one file), read again by each
    `refresh`.

    Contents are compared, not times of modification, so a ConfigMap's swap of symbolic links is noticed like
    any edit. A directory that cannot be listed changes nothing. Of two files about one service, the one in
    force stays; if neither is, the first by name is taken.
    """

    def __init__(
        self, path: Path, notifiers: Collection[str] | None = None, gates: Collection[str] | None = None
    ) -> None:
        self._path, self._names = path, {"notify": notifiers, "gate": gates}
        self._files: dict[str, _File] = {}
        self._unlisted: tuple[Problem, ...] = ()

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies in force, in the order of file names; one for each service."""
        return tuple(self.in_force.values())

    @property
    def in_force(self) -> dict[str, Policy]:
        """The policies in force, by file name."""
        return {name: file.good for name, file in sorted(self._files.items()) if file.good}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems of the files as they are now."""
        return self._unlisted + tuple(
            problem for _, file in sorted(self._files.items()) for problem in file.problems
        )

    def refresh(self) -> Changes:
        """Reads the files again, and returns what has changed since the last time. Never raises for a bad
        file."""
        try:
            paths = _list(self._path)
        except OSError as error:
            problem = (_unreadable(self._path, error),)
            news, self._unlisted = (problem if problem != self._unlisted else ()), problem
            return Changes(
                refused=news,
                kept=tuple(sorted(name for name, file in self._files.items() if file.good)) if news else (),
            )
        self._unlisted = ()
        return self.read(paths)

    def read(self, paths: Sequence[Path]) -> Changes:
        """Reads these files instead of the directory's, and returns what has changed since the last time."""
        before = {policy.key: policy for policy in self.policies}
        complaints = {name: file.problems for name, file in self._files.items()}
        self._files = {str(path): self._read(path) for path in paths}
        self._settle()
        after = {policy.key: policy for policy in self.policies}
        refused = {
            name: file
            for name, file in self._files.items()
            if file.problems and file.problems != complaints.get(name)
        }
        return Changes(
            added=tuple(policy for key, policy in after.items() if key not in before),
            changed=tuple(policy for key, policy in after.items() if key in before and policy != before[key]),
            removed=tuple(policy for key, policy in before.items() if key not in after),
            refused=tuple(problem for file in refused.values() for problem in file.problems),
            kept=tuple(name for name, file in refused.items() if file.good),
            mended=tuple(
                name for name, file in self._files.items() if complaints.get(name) and not file.problems
            ),
        )

    def _read(self, path: Path) -> _File:
        """Reads a file; parses it only if its content has changed."""
        known = self._files.get(str(path), _File())
        try:
            content = path.read_bytes()
        except OSError as error:
            unreadable = (_unreadable(path, error),)
            return replace(known, digest=b"", policy=None, own=unreadable, problems=unreadable)
        digest = sha256(content).digest()
        if digest == known.digest:
            return replace(known, problems=known.own)
        policy, lines, problems = _policy(content, str(path), self._names)
        return replace(known, digest=digest, policy=policy, lines=lines, own=problems, problems=problems)

    def _settle(self) -> None:
        """Decides which version of each file is in force, so that each service has one policy."""
        taken: dict[tuple[str, str], tuple[str, int]] = {}
        # A file that is in force for a service comes before one that is new to it.
        order = sorted(self._files.items(), key=lambda item: (not _stays(item[1]), item[0]))
        for name, file in order:
            twice = [key for key in file.policy.keys if key in taken] if file.policy else []
            if file.policy and not twice:
                file.good, file.good_lines = file.policy, file.lines
            elif file.policy:
                other, line = taken[twice[0]]
                message = f"must be the only policy of {'/'.join(twice[0])}, but {other}:{line} is one too"
                place = file.policy.keys.index(twice[0])
                file.problems = (Problem(_name_of(place), message, name, file.lines[place]),)
            if file.good and any(key in taken for key in file.good.keys):
                file.good = None  # one of its services has moved to another file
            elif file.good:
                taken.update(
                    (key, (name, line)) for key, line in zip(file.good.keys, file.good_lines, strict=True)
                )


def _stays(file: _File) -> bool:
    """Whether a file that was in force is still about the same services, or some of them, and no others."""
    return file.good is not None and (file.policy is None or {*file.policy.keys} <= {*file.good.keys})


def _list(path: Path) -> list[Path]:
    """The policy files of a directory by name, without hidden ones, which belong to a ConfigMap's mount.
    Raises OSError."""
    if path.is_file():
        return [path]
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix in (".yaml", ".yml") and not file.name.startswith(".") and not file.is_dir()
    )


def _name_of(place: int) -> Key:
    """The key of a service's name in a policy; place: 0 for the policy's own service, from 1 on for the
    members of its bracket."""
    return ("service", "name") if place == 0 else ("bracket", "members", place - 1, "service", "name")


def _policy(
    content: bytes, file: str, names: Mapping[str, Collection[str] | None]
) -> tuple[Policy | None, tuple[int, ...], tuple[Problem, ...]]:
    """The policy, or None if there are problems; the lines of its services' names; the problems, by line."""
    try:
        document = parse_document(content, file)
    except InvalidPolicy as refused:
        return None, (), refused.problems
    policy, found = None, list(_beyond_the_model(document.data, names))
    try:
        policy = Policy.load(document.data)
    except InvalidPolicy as refused:
        found += refused.problems
    problems = tuple(
        sorted(
            (document.placed(problem) for problem in found),
            key=lambda problem: (problem.line, key_text(problem.key)),
        )
    )
    if problems or policy is None:
        return None, (), problems
    return (
        policy,
        tuple(document.lines.get(_name_of(place), 1) for place in range(len(policy.keys))),
        problems,
    )


def _beyond_the_model(data: Any, names: Mapping[str, Collection[str] | None]) -> Iterator[Problem]:
    """Checks what the domain cannot check: PromQL, and the names of notifiers and gates."""
    yield from _promql(data, ())
    for position, member in enumerate(_items(_at(data, "bracket", "members"))):
        yield from _promql(member, ("bracket", "members", position))
    for position, hook in enumerate(_items(_at(data, "hooks"))):
        for key, what in (("notify", "a notifier"), ("gate", "a URL or a gate")):
            name, there = _at(hook, key), names[key]
            if there is not None and isinstance(name, str) and is_label_name(name) and name not in there:
                known = ", ".join(sorted(there)) or "none is defined"
                yield Problem(
                    ("hooks", position, key),
                    f"must be {what} of the settings ({known}), but is {shown(name)}",
                )


def _promql(data: Any, around: Key) -> Iterator[Problem]:
    """Checks the queries of a policy, or of a bracket's member. around: the key of the member."""
    for position, metric in enumerate(_items(_at(data, "analysis", "metrics"))):
        promql = _at(metric, "query", "promql")
        if not isinstance(promql, str) or not promql:
            continue
        # Without the variable, the domain has refused the query already.
        compared = bool(_at(metric, "query", "compare")) and "$canary_pods" in promql
        if message := promql_refusal(promql, compared):
            yield Problem((*around, "analysis", "metrics", position, "query", "promql"), message)


def _at(data: Any, *names: str) -> Any:
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _items(data: Any) -> list[Any]:
    return data if isinstance(data, list) else []


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a policy file, for editors: `# yaml-language-server:
    $schema=...`."""
    schema = _for_people(Policy.model_json_schema(by_alias=True, mode="validation"))
    metrics = schema["$defs"]["Metric"]["properties"]
    for name in sorted(Metric.may_be_empty):  # `- errors:` alone is errors with all defaults
        metrics[name]["anyOf"] = [{"$ref": metrics[name].pop("$ref")}, {"type": "null"}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "canaryd policy"}


def _for_people(schema: Any) -> Any:
    """Rewrites pydantic's schema for people: defaults with units, no null (an empty key is refused), no
    titles made of names."""
    if isinstance(schema, list):
        return [_for_people(entry) for entry in schema if entry != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    default = schema.get("default")
    if isinstance(default, int | float) and not isinstance(default, bool) and "examples" in schema:
        schema = {
            **schema,
            "default": format_duration(default)
            if schema.get("pattern") == DURATION_PATTERN
            else format_share(default),
        }
    elif isinstance(default, dict | list):
        schema = {**schema, "default": without_nones(default)}
    kept = {
        key: value
        for key, value in schema.items()
        if not (key in ("title", "le") and not isinstance(value, dict))
        and not (key == "default" and value is None)
    }
    if len(kept.get("anyOf", ())) == 2 and {"type": "null"} in kept["anyOf"]:
        only = next(choice for choice in kept.pop("anyOf") if choice != {"type": "null"})
        kept = {**only, **kept}
    return {
        key: value if key == "default" else _for_people(value) for key, value in kept.items() if key != "le"
    }

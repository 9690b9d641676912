"""Reads Kubernetes manifests from files: every document with its line. A document that cannot be parsed does
not affect the others."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from canaryd.domain.check_facts import Manifest
from canaryd.domain.ports import Rejected

_BETWEEN = re.compile(r"---(\s.*)?")


def read(paths: Sequence[Path]) -> list[Manifest]:
    """Reads the documents of files, and of all *.yaml and *.yml files in directories. Raises Rejected for a
    file that cannot be read or is not UTF-8."""
    return [document for path in paths for file in _files(path) for document in _documents(file)]


def _files(path: Path) -> list[Path]:
    return sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if path.is_dir() else [path]


def _documents(file: Path) -> Iterator[Manifest]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise Rejected(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Rejected(
            f"{file}: must be UTF-8 text, but has the byte 0x{error.object[error.start]:02x}"
        ) from error
    begin, lines = 0, text.splitlines()
    for end, line in enumerate([*lines, "---"]):
        if _BETWEEN.fullmatch(line):
            body = "\n".join(lines[begin:end])
            if any(line.strip() and not line.lstrip().startswith("#") for line in lines[begin:end]):
                yield _document(str(file), begin + 1, body)
            begin = end + 1


def _document(file: str, line: int, text: str) -> Manifest:
    try:
        return Manifest(file, line, text, YAML(typ="safe", pure=True).load(text))
    except (YAMLError, ValueError) as error:
        mark = error.problem_mark or error.context_mark if isinstance(error, MarkedYAMLError) else None
        problem = (error.problem or error.context) if isinstance(error, MarkedYAMLError) else str(error)
        return Manifest(
            file, line, text, None, " ".join(str(problem).split()), line + (mark.line if mark else 0)
        )

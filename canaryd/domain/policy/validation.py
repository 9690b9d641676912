"""Refusals of policies and settings, written so that people can fix them: which key, what was wanted, what
came.

`refusals` turns pydantic's errors into such sentences. The reader of a file adds file and line.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, ClassVar, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

Key = tuple[str | int, ...]
# validation context: this came from a file, so a bare number for a duration or a share is refused
WRITTEN = {"written": True}


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal. key: its place in the document, () for the whole. file, line: "" and 0 without a file;
    lines count from 1."""

    key: Key
    message: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return place + " ".join(part for part in (key_text(self.key), self.message) if part)


class InvalidPolicy(ValueError):
    """A document is not valid; `problems` has all that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def _written_name(name: str) -> str:
    """The key in files of a field's name in Python: noDataFor for no_data_for, and `for` for for_, since
    `for` is reserved in Python."""
    return to_camel(name.rstrip("_"))


class StrictModel(BaseModel):
    """The base of what people write in YAML: frozen, with camelCase keys, and without unknown keys.

    later: keys that are planned, and refused as not supported yet. may_be_empty: keys that need no value; any
    other empty key is refused, since `max:` may be a limit that got lost. Python names are for code and
    camelCase names for files: `read` accepts only the latter.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=_written_name,
        populate_by_name=True,
        hide_input_in_errors=True,
    )
    later: ClassVar[Mapping[str, str]] = {}
    may_be_empty: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def read(cls, data: object, **context: object) -> Self:
        """Reads plain data (maps, lists, scalars) of a YAML or JSON document. context: for validators. Raises
        InvalidPolicy with all problems."""
        empty = list(_empty(cls, data, ()))
        try:
            read = cls.model_validate(data, context={**WRITTEN, **context}, by_alias=True, by_name=False)
        except ValidationError as error:
            # An unknown or planned key is one problem; what is or is not below it is none.
            unknown = {
                problem["loc"]
                for problem in error.errors(include_url=False)
                if problem["type"] == "extra_forbidden"
            }
            empty = [
                key for key in empty if not any(key[:depth] in unknown for depth in range(1, len(key) + 1))
            ]
            others = [problem for problem in refusals(cls, error) if problem.key not in empty]
            raise InvalidPolicy([*(_emptiness(cls, key) for key in empty), *others]) from error
        if empty:
            raise InvalidPolicy([_emptiness(cls, key) for key in empty])
        return read


def _empty(model: type[BaseModel], data: object, key: Key) -> Iterator[Key]:
    """Finds the keys that have no value and need one."""
    if isinstance(data, dict):
        entries: Iterable[tuple[str | int, object]] = data.items()
    elif isinstance(data, list):
        entries = enumerate(data)
    else:
        return
    holder = _model(model, key)
    free = holder.may_be_empty if holder and issubclass(holder, StrictModel) else frozenset()
    for name, value in entries:
        if value is None and name not in free:
            yield *key, name
        yield from _empty(model, value, (*key, name))


def _emptiness(model: type[BaseModel], key: Key) -> Problem:
    field = _field(model, key)
    if field is not None and field.is_required():
        return Problem(
            key,
            "must have a value, but is empty"
            + (f"; wanted: {field.description}" if field.description else ""),
        )
    return Problem(key, "must have a value or be left out, but is empty")


def refusal(message: str) -> PydanticCustomError:
    """For validators: an error whose message follows the key, such as `must be X, but is Y`."""
    # a template of its own: messages may hold braces
    return PydanticCustomError("refused", "{message}", {"message": message})


def refuse_at(*problems: tuple[Key, str]) -> None:
    """For validators: refuses several keys below the present one at once; does nothing without problems.
    Raises ValidationError."""
    if problems:
        raise ValidationError.from_exception_data(
            "refused",
            [InitErrorDetails(type=refusal(message), loc=key, input=None) for key, message in problems],
        )


def refusals(model: type[BaseModel], error: ValidationError) -> tuple[Problem, ...]:
    """Pydantic's errors about `model` as sentences, in pydantic's order."""
    errors = error.errors(include_url=False)
    later = {
        problem["loc"][:-1]
        for problem in errors
        if problem["type"] == "extra_forbidden" and _later(model, problem["loc"])
    }
    # A map with a planned key lacks other keys because of it: one sentence is enough.
    kept = [
        problem for problem in errors if not (problem["type"] == "missing" and problem["loc"][:-1] in later)
    ]
    # Pydantic counts only valid entries, so a list of invalid ones is "too short" as well.
    above = {problem["loc"][:depth] for problem in kept for depth in range(len(problem["loc"]))}
    kept = [problem for problem in kept if not (problem["type"] == "too_short" and problem["loc"] in above)]
    # A default that depends on a wrong value cannot be computed; that is no second mistake.
    kept = [problem for problem in kept if problem["type"] != "default_factory_not_called"]
    return tuple(Problem(_key(problem["loc"]), _sentence(model, problem)) for problem in kept)


def _key(loc: Key) -> Key:
    """Removes the part by which pydantic marks a mistake in a map's key instead of its value."""
    return loc[:-1] if loc and loc[-1] == "[key]" else loc


def key_text(key: Key) -> str:
    """A key in text: ("stages", 2, "weight") is `stages[2].weight`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown(value: object) -> str:
    """A value as in YAML, at most 80 characters long."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a map" + (
            f" ({', '.join(str(key) for key in list(value)[:3])}, ...)" if value else " without keys"
        )
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


_SENTENCES = {
    "string_type": "must be text (in quotes where YAML sees a number)",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list, such as [a, b]",
    "dict_type": "must be a map of keys and values",
    "mapping_type": "must be a map of keys and values",
    "model_type": "must be a map of keys and values",
    "model_attributes_type": "must be a map of keys and values",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "string_too_short": "must not be empty",
    "invalid_key": "must have text as its name",
}


def _sentence(model: type[BaseModel], error: Mapping[str, Any]) -> str:
    kind, key, context = error["type"], error["loc"], error.get("ctx", {})
    if kind == "refused":
        return str(context["message"])
    if kind == "missing":
        field = _field(model, key)
        return "is missing" + (f", wanted: {field.description}" if field and field.description else "")
    if kind == "extra_forbidden":
        return _unknown(model, key)
    if kind == "too_short":
        return f"must have at least {context['min_length']} entry, but has {context['actual_length']}"
    wanted = _SENTENCES[kind].format(**context) if kind in _SENTENCES else str(error["msg"])
    secret = "something else (not shown: it may hold a secret)"
    return f"{wanted}, but is {secret if _is_secret(model, key) else shown(error['input'])}"


def _is_secret(model: type[BaseModel], key: Key) -> bool:
    """Whether the value at a key may be a secret, or may hold one."""
    around = (_field(model, key[:depth]) for depth in range(1, len(key) + 1))
    if any(SecretStr in _parts(field.annotation) for field in around if field):
        return True
    # The second case is an entry of a list or a map.
    return _holds_secrets(_field(model, key) or _field(model, key[:-1]))


def _holds_secrets(field: FieldInfo | None) -> bool:
    parts = _parts(field.annotation) if field else []
    models = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
    return SecretStr in parts or any(
        _holds_secrets(inner) for model in models for inner in model.model_fields.values()
    )


def _unknown(model: type[BaseModel], key: Key) -> str:
    later = _later(model, key)
    if later:
        return f"is not supported yet: {later}"
    holder = _model(model, key[:-1])
    known = [field.alias or name for name, field in holder.model_fields.items()] if holder else []
    near = get_close_matches(str(key[-1]), known, n=1)
    return f"is not known here, wanted one of {', '.join(known)}" + (
        f" (did you mean {near[0]}?)" if near else ""
    )


def _later(model: type[BaseModel], key: Key) -> str:
    holder = _model(model, key[:-1])
    return holder.later.get(str(key[-1]), "") if holder and issubclass(holder, StrictModel) else ""


def _field(model: type[BaseModel], key: Key) -> FieldInfo | None:
    """The model's field at a key; None for an entry of a list or a map."""
    holder = _model(model, key[:-1])
    fields = holder.model_fields.items() if holder and key else ()
    return next((field for name, field in fields if key[-1] in (field.alias, name)), None)


def _model(model: type[BaseModel], key: Key) -> type[BaseModel] | None:
    """The model at a key; None if there is none."""
    here: type[BaseModel] | None = model
    for position, step in enumerate(key):
        if here is None:
            return None
        # For an entry of a list or a map, the field before it has given the model already.
        if isinstance(step, int) or (position and _is_entry(model, key[: position + 1])):
            continue
        field = next(
            (field for name, field in here.model_fields.items() if step in (field.alias, name)), None
        )
        found = (
            [
                part
                for part in _parts(field.annotation)
                if isinstance(part, type) and issubclass(part, BaseModel)
            ]
            if field
            else []
        )
        here = found[0] if found else None
    return here


def _is_entry(model: type[BaseModel], key: Key) -> bool:
    """Whether the last part of a key is a name that people chose in a map of models."""
    field = _field(model, key[:-1])
    return field is not None and any(part is Mapping for part in _origins(field.annotation))


def _parts(annotation: Any) -> list[Any]:
    """The types in an annotation: `tuple[Stage, ...] | None` has Stage and None."""
    origin = get_origin(annotation)
    if origin is None:
        return [annotation]
    if origin is Annotated:
        return _parts(get_args(annotation)[0])
    return [part for argument in get_args(annotation) for part in _parts(argument)]


def _origins(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    inner = (
        [part for argument in get_args(annotation) for part in _origins(argument)]
        if origin in (Union, UnionType, Annotated)
        else []
    )
    return [get_origin(annotation), *inner]

"""reference/settings.md, from the model that reads config/canaryd.yaml."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from canaryd.domain.policy.units import format_duration
from canaryd.settings import Settings
from docs_generator import ROOT
from docs_generator.markdown import code, page, plain, table

EXAMPLE = ROOT / "config" / "canaryd.yaml"
SECONDS = ("timeout", "interval", "delay", "settle", "beat", "after")


def settings_page() -> str:
    """The page, in Markdown."""
    blocks = [
        "`canaryd run --config config/canaryd.yaml` reads them; the Helm chart writes them from its value "
        "`config`. Only "
        "`prometheus.url` must be there. Files are absolute, or relative to the settings file.",
        "Secrets come from files, which are read again whenever they are used, so that a rotated token is "
        "picked up, or from "
        "the environment as `${NAME}`, alone or within a text (`Bearer ${NAME}`). No log and no message "
        "shows them.",
        "## Top level",
        _keys(Settings),
    ]
    for model in _in_order(Settings):
        blocks += [f"## {model.__name__}", plain(" ".join((model.__doc__ or "").split())), _keys(model)]
    blocks += [
        "## All settings in one file",
        "This is `config/canaryd.yaml`. What it says is the default unless the comment says otherwise.",
        f"```yaml\n{EXAMPLE.read_text(encoding='utf-8').rstrip()}\n```",
    ]
    return page("The settings of the daemon", *blocks)


def _in_order(root: type[BaseModel]) -> list[type[BaseModel]]:
    """The models in the order in which a reader meets them."""
    found: list[type[BaseModel]] = []
    unread = [root]
    while unread:
        model = unread.pop(0)
        for field in model.model_fields.values():
            for below in _models(field.annotation):
                if below not in found:
                    found.append(below)
                    unread.append(below)
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _keys(model: type[BaseModel]) -> str:
    rows = [
        (
            code(field.alias or name) + (" (required)" if field.is_required() else ""),
            _kind(field.annotation, name),
            _default(field, name),
            plain(field.description or ""),
        )
        for name, field in model.model_fields.items()
    ]
    return table(("key", "what", "default", "meaning"), rows)


def _kind(annotation: Any, name: str) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0], name)
    if origin in (Union, UnionType):
        return " or ".join(
            _kind(get_arg, name) for get_arg in get_args(annotation) if get_arg is not type(None)
        )
    if origin is Literal:
        return ", ".join(code(str(value)) for value in get_args(annotation))
    if origin is tuple:
        return f"list of {_kind(get_args(annotation)[0], name)}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"map of names to {_kind(get_args(annotation)[1], name)}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    if isinstance(annotation, type) and issubclass(annotation, SecretStr):
        return "secret"
    if name.endswith(SECONDS):
        return "duration"
    return {
        "str": "text",
        "bool": "true or false",
        "int": "whole number",
        "float": "number",
        "Path": "file",
    }.get(getattr(annotation, "__name__", ""), "")


def _default(field: Any, name: str) -> str:
    default = field.default
    if default is PydanticUndefined or default is None or isinstance(default, BaseModel):
        return ""
    if isinstance(default, bool):
        return code(str(default).lower())
    if isinstance(default, float) and name.endswith(SECONDS):
        return code(format_duration(default))
    if isinstance(default, tuple):
        return code("[]")
    return code("{}") if default == {} else code(str(default))

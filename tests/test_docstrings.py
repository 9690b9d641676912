"""What public code says of itself, read from the code: a docstring, the errors it raises, the shapes it
takes."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "canaryd"
# Whose docstrings are held to this.
PACKAGES = (
    "domain",
    "routing",
    "stats",
    "judge",
    "report",
    "simulation",
    "control",
    "adapters",
    "app.py",
    "settings.py",
    "commands/check",
    "commands/deploy",
    "commands/reset",
)
ARRAYS = {"Array", "Single", "Rows", "Indices"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef


@dataclass(frozen=True)
class Definition:
    """A public function, method or class. owner: of a method."""

    path: Path
    node: Documented
    owner: ast.ClassDef | None = None

    def __str__(self) -> str:
        name = f"{self.owner.name}.{self.node.name}" if self.owner else self.node.name
        return f"{self.path.relative_to(PACKAGE)}:{self.node.lineno} {name}"

    @property
    def docstring(self) -> str:
        """Its own; that of a constructor may be its class's."""
        own = ast.get_docstring(self.node) or ""
        if self.owner is not None and self.node.name == "__init__":
            return own + (ast.get_docstring(self.owner) or "")
        return own


def modules() -> list[Path]:
    """The modules of the packages, and the modules that PACKAGES names themselves."""
    found = [PACKAGE / package for package in PACKAGES]
    return sorted(path for place in found for path in ([place] if place.is_file() else place.rglob("*.py")))


def definitions() -> Iterator[Definition]:
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, Documented) or node.name.startswith("_"):
                continue
            yield Definition(path, node)
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, Function) and (
                        method.name == "__init__" or not method.name.startswith("_")
                    ):
                        yield Definition(path, method, node)


DEFINITIONS = list(definitions())


def bases() -> dict[str, set[str]]:
    """Each class's bases, by name."""
    return {
        definition.node.name: {base.id for base in definition.node.bases if isinstance(base, ast.Name)}
        for definition in DEFINITIONS
        if isinstance(definition.node, ast.ClassDef)
    }


BASES = bases()
METHODS = {
    (definition.owner.name, definition.node.name): definition
    for definition in DEFINITIONS
    if definition.owner
}


def is_documented_by_base(owner: str, method: str) -> bool:
    return any(
        ((found := METHODS.get((base, method))) is not None and (found.docstring or is_obvious(found)))
        or is_documented_by_base(base, method)
        for base in BASES.get(owner, ())
    )


def is_obvious(definition: Definition) -> bool:
    """A constructor, a property that hands out what is there, or a declaration without a body."""
    node = definition.node
    if not isinstance(node, Function):
        return False
    if node.name == "__init__":
        return True
    last = node.body[-1]
    is_declaration = isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant)
    is_property = any(isinstance(name, ast.Name) and name.id == "property" for name in node.decorator_list)
    hands_out = (
        isinstance(last, ast.Return)
        and len(node.body) == 1
        and isinstance(last.value, ast.Attribute | ast.Name | ast.Constant | ast.BinOp)
    )
    return is_declaration or (is_property and hands_out)


def is_command(function: Function) -> bool:
    """Whether a function is a command of the terminal, whose docstring is its help."""
    return any("click.command" in ast.unparse(decorator) for decorator in function.decorator_list)


def raised(function: Function) -> set[str]:
    """Names of the errors in a function's own `raise` statements."""
    found: set[str] = set()
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Documented | ast.Lambda):
            continue
        waiting += ast.iter_child_nodes(node)
        error = node.exc if isinstance(node, ast.Raise) else None
        error = error.func if isinstance(error, ast.Call) else error
        if isinstance(error, ast.Name) and error.id[0].isupper():
            found.add(error.id)
    return found


def takes_arrays(function: Function) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return any(
        isinstance(node, ast.Name) and node.id in ARRAYS
        for argument in arguments
        if argument.annotation is not None
        for node in ast.walk(argument.annotation)
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_whatever_is_public_says_what_it_is(package: str) -> None:
    silent = [
        str(definition)
        for definition in DEFINITIONS
        if definition.path.is_relative_to(PACKAGE / package)
        and not definition.docstring
        and not is_obvious(definition)
        and not (definition.owner and is_documented_by_base(definition.owner.name, definition.node.name))
    ]
    assert not silent, "without a docstring:\n" + "\n".join(silent)


@pytest.mark.parametrize("package", PACKAGES)
def test_whatever_raises_names_its_errors_under_raises(package: str) -> None:
    silent = [
        f"{definition}: {', '.join(sorted(errors))}"
        for definition in DEFINITIONS
        if definition.path.is_relative_to(PACKAGE / package)
        and isinstance(definition.node, Function)
        and not is_command(definition.node)
        and (errors := raised(definition.node))
        and not (
            "Raises" in definition.docstring
            and all(error in definition.docstring.partition("Raises")[2] for error in errors)
        )
    ]
    assert not silent, "errors that the docstring does not name:\n" + "\n".join(silent)


def test_a_statistic_says_which_shapes_it_takes() -> None:
    silent = [
        str(definition)
        for definition in DEFINITIONS
        if definition.path.is_relative_to(PACKAGE / "stats")
        and isinstance(definition.node, Function)
        and takes_arrays(definition.node)
        and "shape" not in definition.docstring.lower()
    ]
    assert not silent, "arrays without a shape:\n" + "\n".join(silent)

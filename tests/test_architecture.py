"""Who may import whom, read from the code itself: a rule that nothing checks is the one that slips."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "canaryd"
SANDBOX = ROOT / "canaryd_sandbox"
STANDARD = set(sys.stdlib_module_names)

# Layer -> what it may import besides the standard library and itself: packages of ours by their dotted name,
# libraries by theirs. `commands`, `cli` and `app` put things together and may import all of it.
MAY_IMPORT: dict[str, set[str]] = {
    "domain": {"pydantic", "pydantic_core"},
    "routing": {"canaryd.domain"},
    "stats": {"numpy", "scipy.special"},
    "judge": {"canaryd.domain", "canaryd.stats", "numpy"},
    "report": {"canaryd.domain", "canaryd.judge"},
    "simulation": {"canaryd.domain", "canaryd.stats", "canaryd.judge", "numpy", "scipy.special"},
    "control": {"canaryd.domain", "canaryd.routing", "canaryd.judge", "canaryd.report", "structlog"},
}
PURE = ("domain", "routing", "stats", "judge", "report", "simulation")
LIBRARY_OF_ADAPTER: dict[str, set[str]] = {
    "kube": {"canaryd.routing", "kubernetes", "urllib3", "pydantic", "pydantic_core"},
    "prometheus": {"prometheus_api_client", "requests", "urllib3"},
    "notify": {"requests", "urllib3", "cloudevents", "standardwebhooks"},
    "policies": {"ruamel", "pydantic", "promql_parser"},
    "health_and_metrics": {"prometheus_client"},
    "logs": {"structlog"},
    "ticker": {"apscheduler"},
    "recording_file": {"pydantic"},
    "manifest_files": {"ruamel"},
}
# Modules that stand in several rooms by design: each command has a `command`, and says its results in a
# `text`.
SHARED_NAMES = {"__init__", "__main__", "command", "text"}


def modules(folder: Path = PACKAGE) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path): path for path in [*modules(), *modules(SANDBOX)]}


def imports(path: Path) -> set[str]:
    """Every module imported anywhere in a file, with the names taken from our own packages."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what is imported"
            assert node.module
            ours = node.module.startswith("canaryd") or node.module == "scipy"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if ours else {node.module}
    return found


def imported_modules(name: str) -> set[str]:
    """The modules of ours that a module imports, those behind TYPE_CHECKING and within functions too."""
    found = set()
    for imported in imports(MODULES[name]):
        module = imported if imported in MODULES else imported.rpartition(".")[0]
        if module in MODULES and module != name:
            found.add(module)
    return found


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_within(name: str, allowed: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in allowed)


def outside(path: Path, own: str) -> set[str]:
    return {
        name for name in imports(path) if name.split(".")[0] not in STANDARD and not is_within(name, {own})
    }


def in_package(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", [p for p in modules() if layer(p) in MAY_IMPORT], ids=in_package)
def test_the_middle_imports_only_what_its_layer_may(path: Path) -> None:
    where = layer(path)
    strangers = {name for name in outside(path, f"canaryd.{where}") if not is_within(name, MAY_IMPORT[where])}
    assert not strangers, (
        f"{in_package(path)} imports {sorted(strangers)}; {where} may import {sorted(MAY_IMPORT[where])}"
    )


@pytest.mark.parametrize(
    "path", [p for p in modules() if layer(p) == "adapters" and p.name != "__init__.py"], ids=in_package
)
def test_an_adapter_knows_the_domain_and_its_own_libraries(path: Path) -> None:
    name = path.relative_to(PACKAGE / "adapters").parts[0].removesuffix(".py")
    assert name in LIBRARY_OF_ADAPTER, f"adapters/{name} is new: say here which library it adapts"
    allowed = {"canaryd.domain", *LIBRARY_OF_ADAPTER[name]}
    strangers = {one for one in outside(path, f"canaryd.adapters.{name}") if not is_within(one, allowed)}
    assert not strangers, f"{in_package(path)} imports {sorted(strangers)}; it may import {sorted(allowed)}"


def room(name: str) -> str:
    """`canaryd.commands.plan.text` is in the room `plan`."""
    return name.split(".")[2] if name.count(".") >= 2 else ""


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith("canaryd.commands.")])
def test_no_command_imports_another(name: str) -> None:
    others = {
        other
        for other in imported_modules(name)
        if other.startswith("canaryd.commands.") and room(other) != room(name)
    }
    assert not others, f"{name} imports {sorted(others)}; what commands share belongs into canaryd.cli"


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith("canaryd_sandbox")])
def test_the_sandbox_knows_nothing_of_canaryd(name: str) -> None:
    assert not {other for other in imports(MODULES[name]) if is_within(other, {"canaryd"})}


@pytest.mark.parametrize(
    "name", [n for n in MODULES if is_within(n, {"canaryd"}) and not is_within(n, {"canaryd.commands.demo"})]
)
def test_only_the_demo_knows_the_sandbox(name: str) -> None:
    assert not {
        other
        for other in imports(MODULES[name])
        if is_within(other, {"canaryd_sandbox", "starlette", "uvicorn"})
    }


@pytest.mark.parametrize("path", [p for p in modules() if layer(p) in PURE], ids=in_package)
def test_the_middle_reads_no_clock(path: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    called = {function.attr for function in calls if isinstance(function, ast.Attribute)}
    assert not {"time", "random"} & imports(path)
    assert not {"now", "utcnow", "today"} & called


def texts(path: Path) -> Iterable[str]:
    """Every text in a module's code, those of f-strings too, but docstrings."""
    tree = ast.parse(path.read_text())
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    )


@pytest.mark.parametrize("path", [p for p in modules() if p.name != "documents.py"], ids=in_package)
def test_hosts_are_put_together_and_taken_apart_in_one_module(path: Path) -> None:
    """So that the daemon and every command take a host for the same Service."""
    assert not [text for text in texts(path) if ".svc" in text]
    assert "ip_address" not in path.read_text()


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Tarjan's strongly connected components, over all imports: one behind TYPE_CHECKING ties two modules
    together as well."""
    graph = {name: imported_modules(name) for name in MODULES}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            circle = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(circle) > 1:
                circles.append(sorted(circle))

    for name in graph:
        if name not in index:
            visit(name)
    assert circles == []


def several(places: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Names that stand in more than one place."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, place in places:
        found[name].append(place)
    return {name: where for name, where in found.items() if len(where) > 1}


def test_no_two_modules_have_one_name() -> None:
    named = ((path.stem, in_package(path)) for path in modules() if path.stem not in SHARED_NAMES)
    assert not several(named)


def test_no_two_public_classes_have_one_name() -> None:
    classes = (
        (node.name, in_package(path))
        for path in modules()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not several(classes)


def test_the_daemon_imports_neither_the_terminal_nor_scipy_stats() -> None:
    """Each costs tens of megabytes for the life of a process."""
    heavy = ("rich", "scipy.stats", "pandas", "matplotlib", "starlette")
    code = f"import sys, canaryd.app; print(*sorted(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("path", [*modules(), *modules(SANDBOX), *modules(ROOT / "bench")], ids=str)
def test_a_module_that_a_comment_names_is_there(path: Path) -> None:
    there = {
        module.name
        for folder in ("canaryd", "canaryd_sandbox", "bench", "tests")
        for module in modules(ROOT / folder)
    }
    gone = set(re.findall(r"\b\w+\.py\b", path.read_text())) - there
    assert not gone, f"{path} names {sorted(gone)}"

"""Who may import whom, read from the code itself: a rule that nothing checks is the one that slips."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "canaryd"
STANDARD = set(sys.stdlib_module_names)

# Layer -> what it may import besides the standard library and itself: packages of ours by their dotted name, libraries by theirs.
MAY_IMPORT: dict[str, set[str]] = {
    "domain": {"pydantic", "pydantic_core"},
    "stats": {"numpy", "scipy.special"},
    "analysis": {"canaryd.domain", "canaryd.stats", "numpy"},
    "checks": {"canaryd.domain", "ruamel"},
    "control": {"canaryd.domain", "canaryd.analysis", "structlog"},
}
LIBRARY_OF_ADAPTER: dict[str, set[str]] = {
    "kube": {"kubernetes", "urllib3", "pydantic", "pydantic_core"},
    "prometheus": {"prometheus_api_client", "requests", "urllib3"},
    "posting": {"requests", "urllib3"},
    "signed": {"cloudevents", "standardwebhooks"},
    "webhooks": set(),
    "gates": set(),
    "alertmanager": set(),
    "delivery": set(),
    "http": {"prometheus_client"},
    "logs": {"structlog"},
    "scheduler": {"apscheduler"},
    "policy_files": {"ruamel", "pydantic"},
    "promql": {"promql_parser"},
    "recording": {"pydantic"},
    "manifests": {"ruamel"},
}
# One adapter may build on another only where that one is a tool of its layer, not a thing outside.
TOOLS = {
    "canaryd.adapters.posting": {"signed", "webhooks", "alertmanager", "gates"}, "canaryd.adapters.signed": {"webhooks", "gates"},
    "canaryd.adapters.promql": {"policy_files"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


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


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_within(name: str, allowed: set[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


def outside(path: Path, own: str) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] not in STANDARD and not is_within(name, {own})}


@pytest.mark.parametrize("path", [p for p in modules() if layer(p) in MAY_IMPORT], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_middle_imports_only_what_its_layer_may(path: Path) -> None:
    where = layer(path)
    strangers = {name for name in outside(path, f"canaryd.{where}") if not is_within(name, MAY_IMPORT[where])}
    assert not strangers, f"{path.relative_to(PACKAGE)} imports {sorted(strangers)}; {where} may import {sorted(MAY_IMPORT[where])}"


@pytest.mark.parametrize("path", [p for p in modules() if layer(p) == "adapters" and p.name != "__init__.py"],
                         ids=lambda p: str(p.relative_to(PACKAGE)))
def test_an_adapter_knows_the_domain_and_its_one_library(path: Path) -> None:
    parts = path.relative_to(PACKAGE / "adapters").parts
    name = parts[0].removesuffix(".py")
    assert name in LIBRARY_OF_ADAPTER, f"adapters/{name} is new: say here which library it adapts"
    own = f"canaryd.adapters.{name}"
    allowed = {"canaryd.domain", *LIBRARY_OF_ADAPTER[name], *(tool for tool, users in TOOLS.items() if name in users)}
    strangers = {one for one in outside(path, own) if not is_within(one, allowed)}
    assert not strangers, f"{path.relative_to(PACKAGE)} imports {sorted(strangers)}; it may import {sorted(allowed)}"


@pytest.mark.parametrize("path", [p for p in modules() if layer(p) == "sandbox"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_sandbox_does_not_look_into_control(path: Path) -> None:
    assert not {name for name in imports(path) if is_within(name, {"canaryd.control"})}


@pytest.mark.parametrize("path", [p for p in modules() if layer(p) in ("domain", "stats", "analysis", "checks")],
                         ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_middle_reads_no_clock(path: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    called = {function.attr for function in calls if isinstance(function, ast.Attribute)}
    assert not {"time", "random"} & imports(path)
    assert not {"now", "utcnow", "today"} & called


def test_the_daemon_imports_neither_the_terminal_nor_scipy_stats() -> None:
    """Each costs tens of megabytes for the life of a process."""
    heavy = ("rich", "scipy.stats", "pandas", "matplotlib", "starlette")
    code = f"import sys, canaryd.app; print(*sorted(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == ""

"""What pip installs, and what is in the container image: built from the sources, without any index."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from canaryd.version import DISTRIBUTION

ROOT = Path(__file__).parent.parent
CRD = ROOT / "charts" / "canaryd" / "crds" / "canaryrollouts.yaml"
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "charts/canaryd/crds", "canaryd", "canaryd_sandbox")


def copied_into_the_image() -> list[str]:
    """What the Dockerfile's first stage copies of the checkout."""
    lines = re.findall(r"(?m)^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text())
    return [source for line in lines for source in line.split()[:-1]]


def a_wheel(folder: Path, sources: tuple[str, ...]) -> Path:
    """The wheel built from a copy of these files and folders."""
    for source in sources:
        target = folder / "source" / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, symlinks=True)
        else:
            shutil.copy(ROOT / source, target)
    out = folder / "wheels"
    asked = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out))
    command = [sys.executable, "-m", "pip", *asked, str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = out.iterdir()
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_wheel(tmp_path_factory.mktemp("wheel"), SOURCES)


@pytest.fixture(scope="module")
def in_the_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the image is made from."""
    sources = tuple(source for source in copied_into_the_image() if not source.startswith("requirements"))
    return a_wheel(tmp_path_factory.mktemp("image"), sources)


def canaryd(wheel: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`canaryd` of this wheel, away from the checkout. Libraries are those of the present environment."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    # Without `site`, an editable installation of the checkout does not stand in for what the wheel lacks.
    code = f"import sys; sys.path += {[str(folder / 'installed'), sysconfig.get_path('purelib')]}\n"
    code += "from canaryd.cli import main; main(prog_name='canaryd')"
    command = [sys.executable, "-S", "-c", code, *arguments]
    return subprocess.run(
        command, cwd=folder, env={"PATH": ""}, capture_output=True, text=True, timeout=60, check=False
    )


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_distribution_has_a_name_of_its_own_and_the_command_keeps_its(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION == "canaryd-istio"
    assert wheel.name.startswith("canaryd_istio-")
    with zipfile.ZipFile(wheel) as archive:
        [entry] = [name for name in names(wheel) if name.endswith("entry_points.txt")]
        assert "canaryd = canaryd.cli:main" in archive.read(entry).decode()


def test_no_message_names_the_package_of_somebody_else() -> None:
    """`canaryd` on the package index is another program."""
    told = re.compile(r"pip install [^\n`]*[ '\"]canaryd\b(?!-istio)")
    for folder in ("canaryd", "canaryd_sandbox", "docs", "charts", "config"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in {".py", ".md", ".yaml", ".txt"}:
                assert not told.search(path.read_text()), path
    assert not told.search((ROOT / "README.md").read_text())


def test_the_wheel_has_the_demo_and_the_definition_of_the_custom_resource(
    wheel: Path, tmp_path: Path
) -> None:
    assert {"canaryd_sandbox/world.py", "canaryd_sandbox/demo-policy.yaml"} <= names(wheel)
    assert canaryd(wheel, tmp_path, "crd").stdout == CRD.read_text()
    assert "tail" in canaryd(wheel, tmp_path, "demo", "--list").stdout


def test_what_is_printed_is_one_definition_that_kubectl_takes(wheel: Path, tmp_path: Path) -> None:
    definition = yaml.safe_load(canaryd(wheel, tmp_path, "crd").stdout)
    assert definition["kind"] == "CustomResourceDefinition"
    assert definition["spec"]["names"]["kind"] == "CanaryRollout"


def test_the_image_has_no_simulated_cluster_and_says_so(in_the_image: Path, tmp_path: Path) -> None:
    assert not {name for name in names(in_the_image) if name.startswith("canaryd_sandbox")}
    done = canaryd(in_the_image, tmp_path, "demo")
    assert done.returncode == 1
    assert done.stderr.startswith("canaryd: this installation has no simulated cluster")
    assert done.stderr.count("\n") == 1


def test_the_image_has_the_definition_of_the_custom_resource(in_the_image: Path, tmp_path: Path) -> None:
    assert canaryd(in_the_image, tmp_path, "crd").stdout == CRD.read_text()


def test_what_the_image_is_built_from_reaches_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert set(copied_into_the_image()) == kept

"""The shape of the repository: what a newcomer and a build rely on."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {
    "agents",
    "analytics",
    "benchmarks",
    "compliance",
    "config",
    "docs",
    "historian",
    "nodesets",
    "opcua_server",
    "tests",
}


def tracked() -> list[Path]:
    """Files under version control, or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the project is unknown")
    return tracked()


def test_the_folders_are_the_packages_of_the_architecture(files: list[Path]) -> None:
    # A new top-level folder is a change of the architecture and belongs into it first.
    found = {f.relative_to(ROOT).parts[0] for f in files if len(f.relative_to(ROOT).parts) > 1}
    assert {name for name in found if not name.startswith(".")} - {"LICENSES"} == FOLDERS


def test_every_package_is_type_checked_and_under_the_import_rule() -> None:
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert set(PYPROJECT["tool"]["mypy"]["packages"]) == packages
    assert set(PYPROJECT["tool"]["importlinter"]["root_packages"]) == packages


def test_the_layers_are_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# Written in parts, so that this file does not contain what it forbids.
REGISTRIES = re.compile("|".join(re.escape(a + b) for a, b in (
    ("registry.npm", "js.org"), ("registry.yarn", "pkg.com"), ("pypi.", "org"), ("pythonhosted.", "org"),
    ("proxy.go", "lang.org"), ("deb.deb", "ian.org"),
)))  # fmt: skip
MACHINE_PATHS = re.compile(
    r"(?<![\w./-])/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "ho" + "me", "Us" + "ers")) + r")/\w"
)


@pytest.mark.parametrize(
    ("forbidden", "why"),
    [
        (REGISTRIES, "a plant installs from its own mirror: no file may name another index"),
        (MACHINE_PATHS, "a path of one machine is wrong on every other"),
    ],
)
def test_no_file_is_bound_to_a_registry_or_a_machine(files: list[Path], forbidden: re.Pattern[str], why: str) -> None:
    found = [
        f"{f.relative_to(ROOT)}: {match.group()}"
        for f in files
        if (match := forbidden.search(f.read_bytes().decode("utf-8", "replace")))
    ]
    assert not found, why


def test_the_changelog_starts_with_the_version_that_is_built() -> None:
    [version] = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[:1]
    assert version == PYPROJECT["project"]["version"]


def test_the_image_is_labelled_with_the_version_that_is_built() -> None:
    assert f'image.version="{PYPROJECT["project"]["version"]}"' in (ROOT / "Dockerfile").read_text()


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = sorted(int(p.name[:4]) for p in (ROOT / "docs" / "decisions").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def locked(name: str) -> dict[str, str]:
    """Package -> version."""
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+) \\$", (ROOT / name).read_text(), re.MULTILINE))


def test_the_image_holds_no_test_tools() -> None:
    # Each tool in an image is one more thing to patch and one more thing for an intruder to use.
    tools = {re.split("[>=<]", tool)[0].lower() for tool in PYPROJECT["project"]["optional-dependencies"]["test"]}
    assert not tools & locked("requirements.lock").keys()
    assert tools <= locked("requirements-test.lock").keys()
    assert "requirements-test.lock" not in (ROOT / "Dockerfile").read_text()


def test_tests_run_with_the_versions_that_ship() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-test.lock").items()


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-test.lock"])
def test_every_locked_package_has_its_hashes_and_no_lock_names_an_index(name: str) -> None:
    text = (ROOT / name).read_text()
    assert len(re.findall(r"^\S+==\S+ \\\n    --hash=sha256:", text, re.MULTILINE)) == len(locked(name)) > 0
    assert not re.search("^--", text, re.MULTILINE)  # a line with an option of pip


def test_what_the_image_is_built_from_is_not_ignored() -> None:
    # .dockerignore lets through by name; a new package would be missing from the image without a word.
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(PYPROJECT["tool"]["importlinter"]["root_packages"]) <= kept
    assert {"pyproject.toml", "requirements.lock", PYPROJECT["project"]["readme"], "NOTICE", "LICENSES"} <= kept

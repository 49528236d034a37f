"""README and docs are what a stranger works from: what they name exists, and what exists is named."""

import re
from functools import cache
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from agents.orchestrator import AGENTS
from analytics.detectors import DETECTORS
from config import reference
from config.load import DEMO, load, parse
from config.schema import Model
from opcua_server.cli import app
from opcua_server.drivers import DRIVERS
from opcua_server.plant.alarms import ALARMS
from opcua_server.plant.space import nodes, space

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "tests" / "interop" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def names(paths: list[Path]) -> list[str]:
    return [str(p.relative_to(ROOT)) for p in paths]


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}


@cache
def ids() -> frozenset[str]:
    return frozenset(node for node, _, _ in nodes(space(load(DEMO)).instances))


def code(page: Path) -> str:
    """Everything on a page that is written as code, one piece a line."""
    text = page.read_text()
    fenced = re.findall(r"```.*?\n(.*?)```", text, re.DOTALL)
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    indented = re.findall(r"^ {4,}(.*)$", rest, re.MULTILINE)
    return "\n".join([*fenced, *indented, *re.findall(r"`([^`]+)`", re.sub(r"\s*\n\s*", " ", rest))])


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_command_shown_exists_with_these_options(page: Path) -> None:
    for shown in re.findall(r"^enose( [^#\n]*)?", code(page), re.MULTILINE):
        command = get_command(app)
        options = {name for p in command.params for name in p.opts} | {"--help"}
        for word in shown.split():
            if word.startswith("-"):
                assert word.partition("=")[0] in options, f"enose{shown}: no option {word}"
            elif isinstance(command, TyperGroup) and word != "COMMAND":
                assert word in command.commands, f"enose{shown}: no command {word}"
                command = command.commands[word]
                options |= {name for p in command.params for name in p.opts}


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        to = (page.parent / file) if file else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), target


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_node_named_is_in_the_demo_plant(page: Path) -> None:
    # docs/methods.md names objects by what they are: DEVICE and LINE.
    text = page.read_text().replace("s=DEVICE.", "s=EN01.").replace("s=LINE.", "s=L01.")
    for node in re.findall(r"ns=3;s=([A-Za-z][\w.-]*\w)", text):
        assert node in ids(), node
    for node in re.findall(r"`((?:EN\d\d|L\d\d|ENose)\.[\w.]+)`", text):
        assert node in ids(), node
    for path in re.findall(r"\*((?:Objects|EN\d\d|Lines|Agents|Views)(?: / \w+)+)\*", text):
        node = ".".join(path.split(" / ")).removeprefix("Objects.").removeprefix("Lines.").removeprefix("Views.")
        assert {node, f"ENose.{node}"} & ids(), path


def test_every_step_of_the_shift_is_a_method_of_that_object() -> None:
    text = (ROOT / "README.md").read_text()
    steps = re.findall(r"^\|[^|]*\| (?:Lines / L01 / )?([A-Z]\w+), ([A-Z]\w+)(?:, then (\w+))? \|", text, re.MULTILINE)
    called = [f".{owner}.{method}" for owner, *methods in steps for method in methods if method]
    assert len(called) > 10
    assert not [c for c in called if not any(node.endswith(c) for node in ids())]


@pytest.mark.parametrize(
    ("page", "table"),
    [
        ("alarms.md", ALARMS),
        ("drivers.md", DRIVERS),
        ("scores.md", DETECTORS),
        ("scores.md", AGENTS),
    ],
    ids=["alarms", "drivers", "detectors", "agents"],
)
def test_every_row_of_a_table_has_its_heading(page: str, table: dict[str, object]) -> None:
    assert table.keys() <= set(headings(ROOT / "docs" / page))


def test_alarms_are_documented_as_they_are() -> None:
    rows = re.findall(r"^\|(.+)\|$", (ROOT / "docs" / "alarms.md").read_text(), re.MULTILINE)
    kinds, _, scopes, severities, on, off, comments = [[cell.strip() for cell in row.split("|")] for row in rows]
    documented = list(zip(kinds[1:], scopes[1:], severities[1:], on[1:], off[1:], comments[1:], strict=True))
    assert documented == [
        (
            a.kind,
            a.scope,
            ", ".join(f"{level} {severity}" for level, severity in a.severities.items()),
            f"{a.on_delay:g}",
            f"{a.off_delay:g}",
            "yes" if a.gmp else "no",
        )
        for a in ALARMS.values()
    ]


def test_the_page_of_the_configuration_is_current() -> None:
    # Anew: python -m config.reference
    assert reference.PAGE.read_text() == reference.page()


def test_every_key_of_a_plant_file_is_described() -> None:
    def models(model: type[Model]) -> set[type[Model]]:
        found = {model}
        for field in model.model_fields.values():
            for inner in re.findall(r"config\.schema\.(\w+)", repr(field.annotation)):
                kind = getattr(reference.schema, inner)
                found |= models(kind)
        return found

    reached = models(reference.Plant)
    assert reached == set(reference.SECTIONS)
    missing = [f"{m.__name__}.{f}" for m in reached for f in m.model_fields if f not in reference.meanings(m)]
    assert not missing


def test_the_plant_of_the_readme_is_right() -> None:
    [plant] = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    parsed = parse(plant, "README.md")
    assert space(parsed)
    tags = parsed.devices[0].tags(parsed.registers(parsed.devices[0]))
    assert [t.node for t in tags][:4] == [
        "EN03.Array.S01.SensorValue",
        "EN03.Array.S02.SensorValue",
        "EN03.Array.S03.SensorValue",
        "EN03.Environment.Temperature",
    ]


def test_a_line_of_make_says_how_to_do_each_thing_the_readme_tells() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", code(ROOT / "README.md"))) <= targets

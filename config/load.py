"""YAML -> Plant in one pass; every mistake at once, each with key path, file and line."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from config.schema import BUILT_IN_MAPS, Plant
from nodesets.errors import ConfigurationError, Mistake

DEMO = Path(__file__).parent / "demo.yaml"

Path_ = tuple[str | int, ...]


def load(path: Path) -> Plant:
    """Read a plant. Raises ConfigurationError with all mistakes: syntax, duplicate keys, values, dangling names."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([Mistake("", str(error), str(path))]) from error
    return parse(text, str(path))


def parse(text: str, file: str = "") -> Plant:
    """As `load`, from a string."""
    loader = yaml.CSafeLoader(text)
    try:
        root = loader.get_single_node()
        data: Any = loader.construct_document(root) if root is not None else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigurationError([Mistake("", f"not YAML: {error.problem}", file, line)]) from error
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError([Mistake("", "a plant is a mapping of keys, see config/plant.yaml", file, 1)])
    mistakes = [Mistake(_key(p), "key given twice", file, line) for p, line in _twice(root)]
    plant, wrong = _validated(data)
    if wrong := [*wrong, *_dangling(data)]:
        lines = dict(_lines(root))
        mistakes += [Mistake(_key(p), message, file, _line(p, lines)) for p, message in wrong]
    if mistakes or plant is None:
        raise ConfigurationError(sorted(mistakes, key=lambda m: m.line))
    return plant


def _validated(data: object) -> tuple[Plant | None, list[tuple[Path_, str]]]:
    """The plant, or what is wrong with it and where."""
    try:
        return Plant.model_validate(data), []
    except ValidationError as error:
        errors = error.errors()
    wrong = []
    for e in errors:
        if e["type"] == "too_short" and any(o["loc"][: len(e["loc"])] == e["loc"] != o["loc"] for o in errors):
            continue  # pydantic counts only the items that were right; each wrong one has its own mistake
        unknown = e["type"] == "extra_forbidden"
        wrong.append((e["loc"], "unknown key" if unknown else e["msg"].removeprefix("Value error, ")))
    return None, wrong


def digest(plant: Plant) -> str:
    """SHA-256 (hex) of the plant as read: what batches pin and the audit log names."""
    return hashlib.sha256(plant.model_dump_json().encode()).hexdigest()


def _lines(node: yaml.Node, path: Path_ = ()) -> Iterator[tuple[Path_, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, str(key.value)), key.start_mark.line + 1
            for below, line in _lines(value, (*path, str(key.value))):
                if below != (*path, str(key.value)):
                    yield below, line
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _lines(value, (*path, i))


def _twice(node: yaml.Node, path: Path_ = ()) -> Iterator[tuple[Path_, int]]:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            below = (*path, str(key.value))
            if key.value in seen:
                yield below, key.start_mark.line + 1
            seen.add(key.value)
            yield from _twice(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _twice(value, (*path, i))


def _line(path: Path_, lines: Mapping[Path_, int]) -> int:
    """Line of the key, or of the nearest one above it that stands in the file."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _key(path: Path_) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")


def _dangling(data: Mapping[str, object]) -> Iterator[tuple[Path_, str]]:
    """Names that refer to nothing, and ids given twice. Works on the raw mapping, so that it also speaks of a plant
    whose values are wrong elsewhere; what has the wrong shape is left to the schema."""
    devices = _mappings(data.get("devices"))
    maps = data.get("register_maps")
    known_maps = set(BUILT_IN_MAPS) | (set(maps) if isinstance(maps, dict) else set())
    streams = {
        f"{d.get('id')}.{s.get('id', 'Stream01')}" for _, d in devices for _, s in _mappings(d.get("streams", [{}]))
    }
    for key in ("devices", "lines", "products"):
        seen: set[object] = set()
        for i, item in _mappings(data.get(key)):
            if "id" in item and item["id"] in seen:
                yield (key, i, "id"), f"{item['id']} is taken already"
            seen.add(item.get("id"))
    for i, device in devices:
        name = device.get("registers", "enose")
        if name not in known_maps:
            yield ("devices", i, "registers"), f"no register map {name!r}; known: {', '.join(sorted(known_maps))}"
        elif isinstance(maps, dict) and isinstance(maps.get(name), dict):
            quantities = maps[name].get("environment")
            for j, channel in _mappings(device.get("environment")):
                if isinstance(quantities, dict) and channel.get("quantity") not in quantities:
                    where = ("devices", i, "environment", j, "quantity")
                    yield where, f"register map {name!r} has no {channel.get('quantity')}"
    watched: dict[object, object] = {}
    for i, line in _mappings(data.get("lines")):
        named = line.get("streams")
        for j, stream in enumerate(named if isinstance(named, list) else []):
            if stream not in streams:
                yield ("lines", i, "streams", j), f"no stream {stream!r}; known: {', '.join(sorted(streams))}"
            elif stream in watched:
                yield ("lines", i, "streams", j), f"{stream} belongs to line {watched[stream]} already"
            watched[stream] = line.get("id")


def _mappings(value: object) -> list[tuple[int, dict[str, object]]]:
    return [(i, v) for i, v in enumerate(value) if isinstance(v, dict)] if isinstance(value, list) else []

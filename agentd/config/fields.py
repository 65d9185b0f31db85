"""The settings schema as data: every key, its field, and its range in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import create_model
from pydantic.fields import FieldInfo

from agentd.config.settings import Section, Settings


def find_section(path: Iterable[str]) -> type[Section] | None:
    """Return the table at `path`, or None."""
    section: type[Section] = Settings
    parts = iter(path)
    for part in parts:
        field = section.model_fields.get(part)
        if field is None:
            return None
        found = _section_of(field.annotation)
        if found is None:
            return None
        if found is not field.annotation and next(parts, None) is None:
            return None  # the table of tables itself
        section = found
    return section


def find_field(path: tuple[str, ...]) -> FieldInfo | None:
    """Return the field at `path`, or None."""
    section = find_section(path[:-1])
    return section.model_fields.get(path[-1]) if section else None


def walk_fields(
    section: type[Section] = Settings, prefix: str = ""
) -> Iterator[tuple[str, FieldInfo]]:
    """Yield every key with its field, in file order."""
    for name, field in section.model_fields.items():
        if _is_section(field.annotation):
            yield from walk_fields(field.annotation, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield prefix + name, field


def describe_range(field: FieldInfo) -> str:
    """Say in a few words what a value of `field` may be."""
    schema = _schema_of(field)
    branches = [branch for branch in schema.get("anyOf", [schema]) if branch.get("type") != "null"]
    text = " or ".join(_describe(branch) for branch in branches)
    if field.examples:
        text += ", such as " + " or ".join(
            f'"{example}"' if isinstance(example, str) else str(example)
            for example in field.examples
        )
    return text + "; may be left out" if len(branches) < len(schema.get("anyOf", "1")) else text


def _section_of(annotation: object) -> type[Section] | None:
    """Return the table that `annotation` is, or of which it is a table by name."""
    named = get_args(annotation)[1] if get_origin(annotation) is dict else annotation
    return named if isinstance(named, type) and issubclass(named, Section) else None


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _schema_of(field: FieldInfo) -> dict[str, Any]:
    annotation: Any = field.annotation
    one = create_model("One", value=(annotation, field))
    schema: dict[str, Any] = one.model_json_schema()["properties"]["value"]
    return schema


_KINDS = {"boolean": "true or false", "object": "tables by name"}


def _describe_list(schema: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"a list of {schema['maxItems']} pin numbers"
    least = schema.get("minItems", 0)
    return f"a list of {least} to {schema['maxItems']} {'names' if least else 'texts'}"


def _describe(schema: Mapping[str, Any]) -> str:
    if "const" in schema or "enum" in schema:
        return " or ".join(f'"{v}"' for v in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        return _describe_list(schema)
    if kind in _KINDS:
        return _KINDS[kind]
    if kind == "string":
        longest = schema.get("maxLength")
        return f"text up to {longest} characters" if longest else "text"
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum")
    noun = "whole number" if kind == "integer" else "number"
    above = "above " if "exclusiveMinimum" in schema else ""
    return f"{noun}, {above}{low:g} to {high:g}" if low is not None else noun

"""The settings schema as data: every key, its field, and its range in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import create_model
from pydantic.fields import FieldInfo

from agentd.config.settings import Section, Settings


def find_section(path: Iterable[str]) -> type[Section] | None:
    """Return the table at `path`, or None."""
    section: type[Section] = Settings
    for part in path:
        field = section.model_fields.get(part)
        if field is None or not _is_section(field.annotation):
            return None
        section = field.annotation  # type: ignore[assignment]
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


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _schema_of(field: FieldInfo) -> dict[str, Any]:
    annotation: Any = field.annotation
    one = create_model("One", value=(annotation, field))
    schema: dict[str, Any] = one.model_json_schema()["properties"]["value"]
    return schema


def _describe(schema: Mapping[str, Any]) -> str:
    if "const" in schema or "enum" in schema:
        return " or ".join(f'"{v}"' for v in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        return f"a list of {schema.get('maxItems', 'some')} pin numbers"
    if kind == "boolean":
        return "true or false"
    if kind == "string":
        longest = schema.get("maxLength")
        return f"text up to {longest} characters" if longest else "text"
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum")
    noun = "whole number" if kind == "integer" else "number"
    above = "above " if "exclusiveMinimum" in schema else ""
    return f"{noun}, {above}{low:g} to {high:g}" if low is not None else noun

"""What a tool host offers, checked before the service sees any of it (pure).

A declaration that the service does not accept ends the connection, and with it the household's
conversation: setups and updates carry all functions or none. So nothing is passed on that is not
known to be good. Names: letters, digits, `_`, `-`, and one dot between host and function, at most
64 characters (`FunctionDeclaration.name` of both backends; colons only of one). Schemas: the part
of JSON Schema that `parameters` (OpenAPI 3.0) and `parametersJsonSchema` have in common; what only
narrows or annotates is left out and reported, since the host checks its arguments anyway.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentd.text import safe_text

MAX_TOOLS_OF_HOST = 32
MAX_DESCRIPTION_CHARS = 1024
MAX_QUESTION_CHARS = 120
MAX_SCHEMA_BYTES = 8192
MAX_DEPTH = 5
MAX_PROPERTIES = 32
MAX_ENUM = 64
MIN_TIMEOUT_S, MAX_TIMEOUT_S = 1.0, 120.0

_HOST = re.compile(r"[a-z][a-z0-9_-]{0,23}")
_TOOL = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,38}")
_PROPERTY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_KEYS = frozenset("name description parameters slow timeout_s confirm question".split())
_TYPES = frozenset("object array string integer number boolean".split())
# Of a STRING the API takes no other format; of numbers these.
_FORMATS = frozenset("date-time int32 int64 float double".split())
_KEPT = frozenset("type description enum format properties required items minimum maximum".split())
# These change what a value is, so leaving them out would misinform the model.
_REFUSED = frozenset("$ref anyOf oneOf allOf not if then else patternProperties".split())


class BadOffer(ValueError):
    """The offer cannot be taken; says where, what is wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A function of a host, in a form that the service accepts."""

    name: str  # as the host calls it
    description: str
    parameters: Mapping[str, Any]
    slow: bool = False
    timeout_s: float | None = None
    question: str = ""  # what a person is asked before it runs; empty: nothing


@dataclass(frozen=True, slots=True)
class Offer:
    """All that a host offers."""

    host: str
    tools: tuple[OfferedTool, ...]
    ignored: tuple[str, ...] = field(default=())  # keywords that were left out, with their place

    def full_name(self, tool: OfferedTool) -> str:
        """Return the name by which model, status and journal know a function."""
        return f"{self.host}.{tool.name}"


def read_offer(params: Mapping[str, Any]) -> Offer:
    """Return the offer in the parameters of `tools.offer`.

    Raises:
        BadOffer: anything in it is not as it must be.
    """
    host, tools = params["host"], params["tools"]
    if not _HOST.fullmatch(host):
        raise BadOffer(
            "host: a name of lower-case letters, digits, _ and -, that begins with a letter, "
            f"at most 24; not {_shown(host)}"
        )
    if len(tools) > MAX_TOOLS_OF_HOST:
        raise BadOffer(f"tools: at most {MAX_TOOLS_OF_HOST} of one host; not {len(tools)}")
    ignored: list[str] = []
    read = tuple(_read_tool(tool, f"tools[{at}]", ignored) for at, tool in enumerate(tools))
    names = [tool.name for tool in read]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise BadOffer(f"tools[{at}].name: {name} is there twice")
    return Offer(host, read, tuple(ignored))


def _read_tool(value: object, where: str, ignored: list[str]) -> OfferedTool:
    if not isinstance(value, Mapping):
        raise BadOffer(f"{where}: must be an object with name and description")
    for key in value:
        if key not in _KEYS:
            known = ", ".join(sorted(_KEYS))
            raise BadOffer(f"{where}: {_shown(key)} is unknown; known here: {known}")
    name = value.get("name")
    if not isinstance(name, str) or not _TOOL.fullmatch(name):
        raise BadOffer(
            f"{where}.name: letters, digits, _ and -, that begin with a letter or _, at most 39; "
            f"not {_shown(name)}"
        )
    return OfferedTool(
        name,
        _text(value.get("description"), f"{where}.description", MAX_DESCRIPTION_CHARS),
        _parameters(value.get("parameters"), f"{where}.parameters", ignored),
        _flag(value, "slow", where),
        _timeout_s(value.get("timeout_s"), f"{where}.timeout_s"),
        _question(value, name, where),
    )


def _text(value: object, where: str, most: int) -> str:
    text = safe_text(value, most) if isinstance(value, str) and len(value) <= most else ""
    if not text:
        raise BadOffer(f"{where}: must be a text of 1 to {most} characters")
    return text


def _flag(value: Mapping[str, Any], key: str, where: str) -> bool:
    flag = value.get(key, False)
    if not isinstance(flag, bool):
        raise BadOffer(f"{where}.{key}: must be true or false; not {_shown(flag)}")
    return flag


def _timeout_s(value: object, where: str) -> float | None:
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None or not MIN_TIMEOUT_S <= seconds <= MAX_TIMEOUT_S:
        low, high = f"{MIN_TIMEOUT_S:g}", f"{MAX_TIMEOUT_S:g}"
        raise BadOffer(f"{where}: must be a number from {low} to {high}; not {_shown(value)}")
    return float(seconds)


def _question(value: Mapping[str, Any], name: str, where: str) -> str:
    """Return what a person is to be asked, if they are."""
    confirm = _flag(value, "confirm", where)
    if "question" not in value:
        return f"have {name.replace('_', ' ')} done" if confirm else ""
    if not confirm:
        raise BadOffer(f"{where}.question: is asked only with confirm = true")
    return _text(value["question"], f"{where}.question", MAX_QUESTION_CHARS)


# ── schemas ───────────────────────────────────────────────────────────────────────────────────


def _parameters(value: object, where: str, ignored: list[str]) -> Mapping[str, Any]:
    if value is None:
        return {"type": "object", "properties": {}}
    schema = _schema(value, where, ignored, depth=1)
    if schema["type"] != "object":
        raise BadOffer(f"{where}.type: must be object; its properties are the arguments")
    schema.setdefault("properties", {})
    if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise BadOffer(f"{where}: is more than {MAX_SCHEMA_BYTES} bytes of JSON")
    return schema


def _schema(value: object, where: str, ignored: list[str], depth: int) -> dict[str, Any]:
    """Return what is kept of a schema."""
    if not isinstance(value, Mapping):
        raise BadOffer(f"{where}: must be a JSON Schema object; not {_shown(value)}")
    if depth > MAX_DEPTH:
        raise BadOffer(f"{where}: is more than {MAX_DEPTH} levels deep")
    value = _without_null(value, where)
    for key in value:
        if key in _REFUSED:
            raise BadOffer(f"{where}: {key} is not supported; describe one type in full")
        if key not in _KEPT:
            ignored.append(f"{where}: {_shown(key)}")
    return _checked(_kept(value, where, ignored, depth), where, depth)


def _kept(value: Mapping[str, Any], where: str, ignored: list[str], depth: int) -> dict[str, Any]:
    kept: dict[str, Any] = {"type": _type(value, where)}
    for key, read in _READERS.items():
        if key in value:
            found = read(value, where, ignored, depth)
            if found is not None:
                kept[key] = found
    return kept


def _checked(kept: dict[str, Any], where: str, depth: int) -> dict[str, Any]:
    """Return a schema of which the service does not miss a part."""
    if kept["type"] == "object" and depth > 1 and not kept.get("properties"):
        raise BadOffer(f"{where}.properties: is missing; the service refuses an object without")
    if kept["type"] == "array" and "items" not in kept:
        raise BadOffer(f"{where}.items: is missing; the service refuses an array without")
    return kept


def _without_null(value: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return a schema that may be null as one that may be left out, which models understand."""
    choices = value.get("anyOf")
    if isinstance(choices, list):
        others = [one for one in choices if one != {"type": "null"}]
        if len(others) == 1 and isinstance(others[0], Mapping):
            return {**{key: of for key, of in value.items() if key != "anyOf"}, **others[0]}
    types = value.get("type")
    if isinstance(types, list):
        named = [one for one in types if one != "null"]
        if len(named) != 1:
            raise BadOffer(f"{where}.type: must be one type, besides null")
        return {**value, "type": named[0]}
    return value


def _type(value: Mapping[str, Any], where: str) -> str:
    found = value.get("type", "object" if "properties" in value else None)
    if not isinstance(found, str) or found not in _TYPES:
        known = ", ".join(sorted(_TYPES))
        raise BadOffer(f"{where}.type: must be one of {known}; not {_shown(found)}")
    return found


def _description(value: Mapping[str, Any], where: str, _ignored: list[str], _depth: int) -> str:
    return _text(value["description"], f"{where}.description", MAX_DESCRIPTION_CHARS)


def _enum(
    value: Mapping[str, Any], where: str, ignored: list[str], _depth: int
) -> list[str] | None:
    choices = value["enum"]
    if not isinstance(choices, list) or not 1 <= len(choices) <= MAX_ENUM:
        raise BadOffer(f"{where}.enum: must be a list of 1 to {MAX_ENUM} values")
    if value.get("type") != "string":
        ignored.append(f"{where}: enum (of {_shown(value.get('type'))})")
        return None  # `Schema.enum` of the API is of texts alone
    for choice in choices:
        _text(choice, f"{where}.enum", MAX_QUESTION_CHARS)
    return [str(choice) for choice in choices]


def _format(value: Mapping[str, Any], where: str, ignored: list[str], _depth: int) -> str | None:
    found = value["format"]
    if isinstance(found, str) and found in _FORMATS:
        return found
    ignored.append(f"{where}: format {_shown(found)}")
    return None


def _bound(key: str) -> Any:
    def read(value: Mapping[str, Any], where: str, _ignored: list[str], _depth: int) -> Any:
        if _number(value[key]) is None:
            raise BadOffer(f"{where}.{key}: must be a number; not {_shown(value[key])}")
        return value[key]

    return read


def _properties(
    value: Mapping[str, Any], where: str, ignored: list[str], depth: int
) -> dict[str, Any]:
    found = value["properties"]
    if not isinstance(found, Mapping) or len(found) > MAX_PROPERTIES:
        raise BadOffer(f"{where}.properties: must be an object of at most {MAX_PROPERTIES}")
    for name in found:
        if not _PROPERTY.fullmatch(name):
            raise BadOffer(
                f"{where}.properties: {_shown(name)}: letters, digits and _, that begin with a "
                "letter or _, at most 64"
            )
    return {
        name: _schema(of, f"{where}.properties.{name}", ignored, depth + 1)
        for name, of in found.items()
    }


def _required(
    value: Mapping[str, Any], where: str, _ignored: list[str], _depth: int
) -> list[str] | None:
    found, known = value["required"], value.get("properties", {})
    if not isinstance(found, list) or not isinstance(known, Mapping):
        raise BadOffer(f"{where}.required: must be a list of names of properties")
    for name in found:
        if not isinstance(name, str) or name not in known:
            raise BadOffer(f"{where}.required: {_shown(name)} is not among the properties")
    return list(dict.fromkeys(found)) or None


def _items(value: Mapping[str, Any], where: str, ignored: list[str], depth: int) -> dict[str, Any]:
    return _schema(value["items"], f"{where}.items", ignored, depth + 1)


_READERS = {
    "description": _description,
    "enum": _enum,
    "format": _format,
    "minimum": _bound("minimum"),
    "maximum": _bound("maximum"),
    "properties": _properties,
    "required": _required,
    "items": _items,
}


def _number(value: object) -> int | float | None:
    """Return a value if it is a number that JSON carries exactly (RFC 8259, section 6)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 2**53 else None  # nor is it "not a number"


def _shown(value: object) -> str:
    """Return a value of the host's for a message: short and plain."""
    if isinstance(value, Mapping | list):
        return "an object" if isinstance(value, Mapping) else "a list"
    return safe_text(value if isinstance(value, str) else repr(value)[:200], 40) or "nothing"

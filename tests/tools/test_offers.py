"""What a host may offer: nothing reaches the service that it might refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentd.tools import offers
from agentd.tools.offers import BadOffer, Offer, read_offer


def tool(**changed: Any) -> dict[str, Any]:
    """Return a good tool, changed; None takes a key away."""
    plain = {"name": "light_on", "description": "Switch a light on", **changed}
    return {key: value for key, value in plain.items() if value is not None}


def offered(*tools: Any, host: str = "kitchen") -> Offer:
    """Read an offer."""
    return read_offer({"host": host, "tools": list(tools)})


def schema_of(parameters: dict[str, Any]) -> Any:
    """Return what is kept of a tool's parameters."""
    return offered(tool(parameters=parameters)).tools[0].parameters


def properties(**of: Any) -> dict[str, Any]:
    """Return parameters with these properties."""
    return {"type": "object", "properties": of}


def test_a_good_offer_is_taken_as_it_is() -> None:
    """With everything that may be said of a function."""
    offer = offered(
        tool(slow=True, timeout_s=30, parameters=properties(room={"type": "string"})),
        tool(name="unlock", confirm=True, question="unlock the front door"),
        tool(name="open_gate", confirm=True),
    )
    light, unlock, gate = offer.tools
    assert offer.full_name(light) == "kitchen.light_on"
    assert (light.slow, light.timeout_s, light.question) == (True, 30.0, "")
    assert light.parameters == properties(room={"type": "string"})
    assert unlock.question == "unlock the front door"
    assert gate.question == "have open gate done"
    assert unlock.parameters == properties()
    assert offer.ignored == ()


@pytest.mark.parametrize("host", ["", "Kitchen", "1st", "a.b", "a b", "ä", "x" * 25, "a\n"])
def test_names_of_hosts(host: str) -> None:
    """Lower case, and no dot, which ends them."""
    with pytest.raises(BadOffer, match="host: a name of lower-case letters"):
        offered(tool(), host=host)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("light", "tools[0]: must be an object"),
        (tool(name=None), "tools[0].name: letters"),
        (tool(name="a.b"), "tools[0].name: letters"),
        (tool(name="x" * 40), "tools[0].name: letters"),
        (tool(name=7), "tools[0].name: letters"),
        (tool(description=None), "tools[0].description: must be a text"),
        (tool(description=" \n"), "tools[0].description: must be a text"),
        (tool(description="x" * 1025), "tools[0].description: must be a text of 1 to 1024"),
        (tool(slow=1), "tools[0].slow: must be true or false; not 1"),
        (tool(timeout_s=0), "tools[0].timeout_s: must be a number from 1 to 120; not 0"),
        (tool(timeout_s=True), "tools[0].timeout_s"),
        (tool(timeout_s="9"), "tools[0].timeout_s"),
        (tool(timeout_s=10**400), "tools[0].timeout_s"),
        (tool(confirm="yes"), "tools[0].confirm: must be true or false"),
        (tool(question="do it"), "question: is asked only with confirm = true"),
        (tool(confirm=True, question="x" * 121), "question: must be a text of 1 to 120"),
        (tool(run="rm -rf /"), "tools[0]: run is unknown; known here: confirm, description"),
    ],
)
def test_what_is_wrong_with_a_tool_is_said(given: Any, says: str) -> None:
    """Where, what, and what would be right."""
    with pytest.raises(BadOffer) as refused:
        offered(given)
    assert says in str(refused.value)


def test_tools_are_few_and_different() -> None:
    """A declaration costs tokens in every turn."""
    with pytest.raises(BadOffer, match="light_on is there twice"):
        offered(tool(), tool())
    many = [tool(name=f"t{at}") for at in range(offers.MAX_TOOLS_OF_HOST)]
    assert len(offered(*many).tools) == offers.MAX_TOOLS_OF_HOST
    with pytest.raises(BadOffer, match="at most 32 of one host; not 33"):
        offered(*many, tool())


# ── schemas ──


@pytest.mark.parametrize(
    ("given", "kept", "ignored"),
    [
        ({"type": "string", "description": "a room"}, None, []),
        ({"type": "string", "enum": ["on", "off"]}, None, []),
        ({"type": "integer", "minimum": 0, "maximum": 100}, None, []),
        ({"type": "array", "items": {"type": "number"}}, None, []),
        ({"type": "string", "format": "date-time"}, None, []),
        (properties(x={"type": "boolean"}) | {"required": ["x"]}, None, []),
        ({"type": "string", "format": "uri"}, {"type": "string"}, ["format uri"]),
        ({"type": "string", "default": "a"}, {"type": "string"}, ["default"]),
        ({"type": "integer", "enum": [1, 2]}, {"type": "integer"}, ["enum (of integer)"]),
        ({"type": ["string", "null"]}, {"type": "string"}, []),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "string"}, []),
        ({"properties": {"x": {"type": "string"}}}, properties(x={"type": "string"}), []),
        (
            properties(x={"type": "string"}) | {"required": [], "additionalProperties": False},
            properties(x={"type": "string"}),
            ["additionalProperties"],
        ),
    ],
)
def test_what_the_service_takes_is_kept(given: Any, kept: Any, ignored: list[str]) -> None:
    """What only narrows or annotates is left out and reported; so may be what may be null."""
    offer = offered(tool(parameters=properties(value=given)))
    assert offer.tools[0].parameters == properties(value=given if kept is None else kept)
    where = "tools[0].parameters.properties.value"
    assert list(offer.ignored) == [f"{where}: {what}" for what in ignored]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (7, "must be a JSON Schema object; not 7"),
        ({}, "type: must be one of array"),
        ({"type": "text"}, "not text"),
        ({"type": ["string", "number"]}, "must be one type, besides null"),
        ({"type": "string", "description": 7}, "description: must be a text"),
        ({"type": "string", "enum": []}, "enum: must be a list of 1 to 64"),
        ({"type": "string", "enum": ["a", 1]}, "enum: must be a text"),
        ({"type": "number", "minimum": "0"}, "minimum: must be a number"),
        ({"type": "number", "maximum": float("inf")}, "maximum: must be a number"),
        ({"type": "array"}, "items: is missing"),
        ({"type": "array", "items": []}, "items: must be a JSON Schema object"),
        ({"type": "object"}, "properties: is missing"),
        ({"type": "object", "properties": []}, "properties: must be an object of at most 32"),
        ({"type": "object", "properties": {"a-b": {}}}, "a-b: letters, digits and _"),
        (properties(x={"type": "string"}) | {"required": ["y"]}, "y is not among the properties"),
        (properties(x={"type": "string"}) | {"required": "x"}, "must be a list of names"),
        ({"$ref": "#/defs/x"}, "$ref is not supported"),
        ({"anyOf": [{"type": "string"}, {"type": "number"}]}, "anyOf is not supported"),
        ({"anyOf": 1}, "anyOf is not supported"),
    ],
)
def test_what_the_service_would_refuse_is_refused(given: Any, says: str) -> None:
    """One bad declaration would end every setup, and with it the conversation."""
    with pytest.raises(BadOffer) as refused:
        schema_of(properties(value=given))
    assert says in str(refused.value)


def test_arguments_are_an_object() -> None:
    """The parameters of a call have names."""
    with pytest.raises(BadOffer, match="must be object"):
        schema_of({"type": "string"})
    assert schema_of({"type": "object"}) == properties()


def test_a_schema_is_neither_deep_nor_long() -> None:
    """What comes from a generator may be both."""
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(offers.MAX_DEPTH):
        deep = {"type": "array", "items": deep}
    with pytest.raises(BadOffer, match="more than 5 levels deep"):
        schema_of(properties(value=deep))
    long = {f"p{at}": {"type": "string", "description": "x" * 1000} for at in range(9)}
    with pytest.raises(BadOffer, match="more than 8192 bytes"):
        schema_of(properties(**long))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                "name description parameters type properties items enum required x anyOf".split()
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300)
@given(st.text(max_size=10), st.lists(anything, max_size=3))
def test_any_offer_is_taken_or_refused(host: str, tools: list[Any]) -> None:
    """Whatever JSON there is; what is taken is plain and finite."""
    told, kept = "", []
    try:
        kept = [dict(one.parameters) for one in read_offer({"host": host, "tools": tools}).tools]
    except BadOffer as refusal:
        told = str(refusal)
    assert told.isprintable()
    json.dumps(kept, allow_nan=False)


@settings(max_examples=200)
@given(anything)
def test_any_schema_is_taken_or_refused(schema: Any) -> None:
    """The same below a good name."""
    try:
        kept = offered(tool(parameters=schema)).tools[0].parameters
    except BadOffer:
        return
    assert kept["type"] == "object"

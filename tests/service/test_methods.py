"""What the control socket is said to take is what it takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from agentd.methods import Requests
from agentd.service import rpc, watchers
from agentd.tools import hosts

DOCUMENT = (Path(__file__).parents[2] / "docs" / "operator" / "service.md").read_text(
    encoding="utf-8"
)
NOBODY: Any = None
"""The table of methods asks nothing of those who answer."""
METHODS = Requests(*[NOBODY] * 6).methods()


def test_the_table_of_methods_is_complete() -> None:
    """The page has each method with each parameter; what lasts belongs to the socket."""
    table = DOCUMENT.partition("| method | parameters")[2].partition("\n\n")[0]
    told = {
        name: set(re.findall(r"`(\w+)`", parameters))
        for names, parameters in re.findall(r"^\| (`.*?) \| (.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`([a-z.]+)`", names)
    }
    assert told.pop("watch") == set(watchers.PARAMS)
    assert told.pop("tools.offer") == set(hosts.PARAMS)
    assert told.pop("tools.list") == set()
    assert told == {name: set(method.params) for name, method in METHODS.items()}


def test_the_example_is_understood() -> None:
    """The line that the page sends is a request that passes every check."""
    (example,) = re.findall(r"\$ echo '(.*)' \\\n +\| socat", DOCUMENT)
    request = rpc.parse(example.encode())
    assert rpc.find(METHODS, request).changing
    answer = json.loads(DOCUMENT.partition("control.sock\n    ")[2].splitlines()[0])
    assert answer["result"] == request.params

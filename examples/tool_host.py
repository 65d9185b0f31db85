#!/usr/bin/env python3
"""Let the model roll dice: a tool host in plain Python. Run it as a member of agentd-tools."""

import json
import random
import socket
import sys

OFFER = {
    "host": "games",
    "tools": [
        {
            "name": "roll_dice",
            "description": "Roll dice and return what they show.",
            "parameters": {"type": "object", "properties": {"count": {"type": "integer"}}},
        }
    ],
}


def roll_dice(count=1):
    return [random.randint(1, 6) for _ in range(max(1, min(int(count), 20)))]


path = sys.argv[1] if len(sys.argv) > 1 else "/run/agentd-doors/agentd-tools/control.sock"
daemon = socket.socket(socket.AF_UNIX)
daemon.connect(path)
lines = daemon.makefile("rw", encoding="utf-8")
print(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "tools.offer", "params": OFFER}), file=lines, flush=True)
for message in map(json.loads, lines):
    if message.get("method") == "tool.call":
        result = roll_dice(**message["params"]["args"])
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), file=lines, flush=True)
    elif "error" in message:
        sys.exit(message["error"]["message"])

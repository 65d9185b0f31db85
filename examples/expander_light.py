#!/usr/bin/env python3
"""Show the state of the device on a PCF8574 GPIO expander: LEDs at P0 (listening) and P1 (muted).

Needs python3 and /dev/i2c-1; run it as a member of the groups i2c and agentd. An LED is wired from
3.3 V to its pin, so it is lit when the pin is low (PCF8574 data sheet, "Quasi-bidirectional I/Os").
"""

import fcntl
import json
import os
import socket
import sys
import time

I2C_SLAVE = 0x0703  # linux/i2c-dev.h
LISTENING, MUTED = 0b01, 0b10
LIT = {"listening": LISTENING, "muted": MUTED}


def open_expander(device="/dev/i2c-1", address=0x20):
    bus = os.open(device, os.O_RDWR)
    fcntl.ioctl(bus, I2C_SLAVE, address)
    return bus


def show(bus, state):
    os.write(bus, bytes([0xFF & ~LIT.get(state, 0)]))


def states(path):
    """Yield the state now and whenever it changes, until the daemon stops."""
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.connect(path)
        watch = {"jsonrpc": "2.0", "id": 0, "method": "watch", "params": {"events": ["state"]}}
        daemon.sendall(json.dumps(watch).encode() + b"\n")
        for message in map(json.loads, daemon.makefile(encoding="utf-8")):
            if "result" in message:
                yield message["result"]["state"]
            elif message.get("method") == "event":
                yield message["params"]["fields"]["after"]
            elif "error" in message:
                sys.exit(message["error"]["message"])


def main(path="/run/agentd/control.sock"):
    bus = open_expander()
    while True:
        try:
            for state in states(path):
                show(bus, state)
        except OSError as error:
            print(error, file=sys.stderr)
        show(bus, "off")  # nobody listens while the daemon is away
        time.sleep(2)


if __name__ == "__main__":
    main(*sys.argv[1:])

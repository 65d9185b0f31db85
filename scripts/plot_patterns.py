#!/usr/bin/env python3
"""Draw what the lights show, straight from agentd/device/patterns.py, as docs/images/patterns.svg.

scripts/plot_patterns.py           write the picture
scripts/plot_patterns.py --check   exit 1 if the picture is not what the patterns say
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agentd.device.patterns import LightKind, look  # noqa: E402 - found by the line above
from agentd.device.state import DeviceState  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "patterns.svg"
SECONDS = 6.0
STEP_S = 0.05
WIDTH, ROW, LEFT, STRIP, GAP, TOP = 760, 34, 240, 500, 8, 46

MEANING = {
    DeviceState.LISTENING: "listening: audio is leaving the device",
    DeviceState.FATAL: "needs a person: no microphone, bad key",
    DeviceState.VOLUME: "volume changed (here 60 %)",
    DeviceState.MUTED: "microphone closed",
    DeviceState.RINGING: "timer or alarm",
    DeviceState.OFFLINE: "no connection",
    DeviceState.FAILED: "no answer, or speech lost",
    DeviceState.THINKING: "thinking",
    DeviceState.SPEAKING: "speaking",
    DeviceState.FOLLOW_UP: "just answered: go on talking",
    DeviceState.STARTING: "starting",
    DeviceState.IDLE: "idle",
}
# A state that ends by itself is drawn only for as long as it lasts.
LASTS_S = {DeviceState.VOLUME: 2.0, DeviceState.FAILED: 1.6}


def colour(state: DeviceState, age_s: float) -> str:
    """Return the RGB light as it looks."""
    shown = look(state, age_s, LightKind.RGB, volume_percent=60)
    red, green, blue = (round(24 + 231 * channel) for channel in shown.colour)
    return f"#{red:02x}{green:02x}{blue:02x}"


def level(state: DeviceState, age_s: float, kind: LightKind) -> float:
    """Return the brightness of a single LED."""
    return look(state, age_s, kind, volume_percent=60).level


def runs(state: DeviceState, value: str) -> list[tuple[float, float, str]]:
    """Return (begin, end, fill) of equal neighbours, to keep the picture small."""
    found: list[tuple[float, float, str]] = []
    count = round(min(SECONDS, LASTS_S.get(state, SECONDS)) / STEP_S)
    for i in range(count):
        age_s = i * STEP_S
        if value == "rgb":
            fill = colour(state, age_s)
        else:
            grey = round(24 + 231 * level(state, age_s, LightKind(value)))
            fill = f"#{grey:02x}{grey:02x}{round(grey * 0.8):02x}"
        if found and found[-1][2] == fill:
            found[-1] = (found[-1][0], age_s + STEP_S, fill)
        else:
            found.append((age_s, age_s + STEP_S, fill))
    return found


def strip(state: DeviceState, value: str, top: float, height: float) -> list[str]:
    """Return the rectangles of one light over time."""
    per_s = STRIP / SECONDS
    return [
        f'<rect x="{LEFT + begin * per_s:.1f}" y="{top:.1f}" '
        f'width="{(end - begin) * per_s + 0.3:.1f}" height="{height:.1f}" fill="{fill}"/>'
        for begin, end, fill in runs(state, value)
    ]


def picture() -> str:
    """Return the SVG."""
    height = TOP + len(MEANING) * (ROW + GAP) + 30
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            'font-family="sans-serif" font-size="12" fill="#ddd">'
        ),
        "<title>What the lights show</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#111"/>',
        (
            f'<text x="{LEFT}" y="18" font-size="11">upper half: RGB LED; below it a single LED, '
            "dimmed, and a plain one</text>"
        ),
    ]
    for second in range(int(SECONDS) + 1):
        x = LEFT + second * STRIP / SECONDS
        out.append(f'<text x="{x:.1f}" y="36" font-size="10" fill="#888">{second} s</text>')
    for row, (state, meaning) in enumerate(MEANING.items()):
        top = TOP + row * (ROW + GAP)
        name = state.value.replace("_", " ")
        out.append(f'<text x="10" y="{top + 14}" font-weight="bold">{name}</text>')
        words = meaning.removeprefix(f"{name}: ").removeprefix("listening: ")
        out.append(f'<text x="10" y="{top + 29}" font-size="10" fill="#aaa">{words}</text>')
        out += strip(state, "rgb", top, ROW * 0.5)
        out += strip(state, "pwm", top + ROW * 0.5, ROW * 0.25)
        out += strip(state, "plain", top + ROW * 0.75, ROW * 0.25)
        out.append(
            f'<rect x="{LEFT}" y="{top}" width="{STRIP}" height="{ROW}" fill="none" '
            'stroke="#444" stroke-width="0.5"/>'
        )
    return "\n".join([*out, "</svg>", ""])


def main() -> int:
    """Write the picture, or compare it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it differs")
    if parser.parse_args().check:
        return int(PICTURE.read_text(encoding="utf-8") != picture())
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the pages say is what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agentd.config.files import parse
from agentd.config.settings import GpioPins
from agentd.device import earcons as sounds
from agentd.device.patterns import LISTENING_FLOOR

ROOT = Path(__file__).parents[2]
HARDWARE = (ROOT / "docs" / "user" / "hardware.md").read_text(encoding="utf-8")
USING = (ROOT / "docs" / "user" / "using.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"```toml\n(.*?)```", HARDWARE, re.DOTALL)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_are_valid(recipe: str) -> None:
    """Every configuration on the hardware page is accepted, alone."""
    parse([(Path("hardware.md"), tomllib.loads(recipe))])


def test_every_pin_setting_is_on_the_page() -> None:
    """Each key of [gpio] is explained on the hardware page."""
    assert [name for name in GpioPins.model_fields if name not in HARDWARE] == []


def test_pins_on_the_page_do_not_collide() -> None:
    """All lights, button and switch of the page can be wired at once (one status light)."""
    table: dict[str, object] = {}
    for recipe in RECIPES:
        table |= tomllib.loads(recipe).get("gpio", {})
    for left_out in ("chip", "status_led"):
        del table[left_out]
    parse([(Path("hardware.md"), {"gpio": table})])


def test_picture_shows_the_patterns() -> None:
    """docs/images/patterns.svg is what scripts/plot_patterns.py draws."""
    script = ROOT / "scripts" / "plot_patterns.py"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False, timeout=60)
    assert done.returncode == 0, "run scripts/plot_patterns.py"


def test_numbers_on_the_pages() -> None:
    """Numbers in the text are the numbers in the code."""
    assert f"{LISTENING_FLOOR:.0%}".replace("%", " %") in HARDWARE
    assert [name for name in sounds.SPOKEN if f"{name}.wav" not in USING] == []

"""Configuration files as people, editors and other programs leave them."""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
from pathlib import Path

from agentd.cli.main import main
from agentd.config.fields import walk_fields
from agentd.errors import EXIT_CONFIG, EXIT_OK
from tests.attack import values
from tests.attack.target import Case, Step, assert_plain

MESSAGE_CHARS = 12_000
LINE_CHARS = 1_200
PLACES = ("agentd.toml", "conf.d/10-a.toml", "conf.d/20-b.toml")
TABLES = ("live", "audio", "vad", "gpio", "network", "privacy", "log", "live.compression", "tools")
LINES = (
    'voice = "Puck"', "hangover_ms = 700", "button = 5", "status_led = 5", 'level = "debug"',
    "status_rgb = [1, 2, 3]", "x = { a = 1, b.c = 2 }", "when = 1979-05-27T07:32:00Z",
    'text = """\n[live]\nvoice = 3\n"""', "[[live]]", "[live]", "= 1", '"" = 1', "a.b.c.d = 1",
    "'key with blanks' = true", "# comment", "port = 0x_1", "f = nan", "g = -inf",
)  # fmt: skip


def _value(rng: random.Random) -> str:
    shape = rng.random()
    if shape < 0.15:
        return rng.choice(("9", "1_0", "0x")) * rng.choice((30, 5000))
    if shape < 0.25:
        depth = rng.choice((5, 60, 900))
        return rng.choice(("[" * depth + "]" * depth, "{a=" * depth + "1" + "}" * depth))
    if shape < 0.5:
        return repr(values.number(rng))
    quoted = values.text(rng).replace("\\", "\\\\").replace('"', '\\"')
    return rng.choice((f'"{quoted}"', f"'{quoted}'", f'"""{quoted}"""', '"\\u001b]0;x\\u0007"'))


def _key(rng: random.Random) -> str:
    keys = [key.rsplit(".", 1)[-1] for key, _ in walk_fields()]
    odd = ('"\\u001b[31mred"', '"\\u202e"', "k" * rng.choice((3, 30_000)), '"a\\nb"', "a.b")
    return rng.choice(odd) if rng.random() < 0.2 else rng.choice(keys)


def _entry(rng: random.Random) -> str:
    return rng.choice(LINES) if rng.random() < 0.3 else f"{_key(rng)} = {_value(rng)}"


def lines(rng: random.Random) -> list[str]:
    """Return the lines of a file that is TOML, nearly."""
    made: list[str] = []
    for _ in range(rng.choice((1, 2, 5))):
        table = rng.choice(TABLES) if rng.random() < 0.8 else _key(rng)
        made.append(f"[{table}]")
        made += [_entry(rng) for _ in range(rng.choice((0, 1, 3)))]
    if rng.random() < 0.3:
        made = values.spoilt("\n".join(made), rng).split("\n")
    return made


class SettingsFiles:
    """The configuration and its conf.d."""

    name = "settings"
    what = "configuration files"

    def make(self, rng: random.Random) -> list[Step]:
        """Return lines, each with the file that it belongs into."""
        files = PLACES[: rng.choice((1, 1, 2, 3))]
        return [[place, line] for place in files for line in lines(rng)]

    def check(self, case: Case) -> int:
        """Run `agentd config check` over the files: good, or every mistake in plain sentences."""
        files: dict[str, list[str]] = {"agentd.toml": []}
        for step in case:
            match step:
                case [
                    ("agentd.toml" | "conf.d/10-a.toml" | "conf.d/20-b.toml") as place,
                    str(line),
                ]:
                    files.setdefault(place, []).append(line)
                case _:
                    pass
        with tempfile.TemporaryDirectory() as folder:
            self.check_files(Path(folder), {n: "\n".join(text) for n, text in files.items()})
        return len(files)

    def check_files(self, folder: Path, files: dict[str, str]) -> None:
        """Write the files and have them checked."""
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        out, wrong = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(wrong):
            status = main(["config", "check", "--config", str(folder / "agentd.toml")])
        assert status in {EXIT_OK, EXIT_CONFIG}, f"exit status {status}"
        assert (status == EXIT_OK) == (not wrong.getvalue()), "a problem without a word, or a word"
        for line in wrong.getvalue().split("\n"):
            assert_plain(line, LINE_CHARS, "what is said of a problem")
        assert len(wrong.getvalue()) < 40 * MESSAGE_CHARS

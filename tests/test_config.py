"""Configuration: files in, a frozen tree or every problem out."""

from __future__ import annotations

import contextlib
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.config import docs as config_docs
from agentd.config.fields import walk_fields
from agentd.config.files import load, parse
from agentd.config.models import model_keys
from agentd.config.settings import Settings
from agentd.errors import ConfigError

HERE = Path("agentd.toml")


def problems_of(text: str) -> list[str]:
    """Return what is said about a wrong file."""
    with pytest.raises(ConfigError) as caught:
        parse([(HERE, tomllib.loads(text))])
    return [str(problem) for problem in caught.value.problems]


def problems_in(text: str) -> list[str]:
    """Return what is said about a file, which may be right."""
    try:
        parse([(HERE, tomllib.loads(text))])
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_no_file_at_all_gives_the_defaults(tmp_path: Path) -> None:
    """A device without a configuration file runs on defaults."""
    assert load(tmp_path / "agentd.toml", required=False).settings == Settings()


def test_a_file_asked_for_by_name_must_exist(tmp_path: Path) -> None:
    """`--config` with a wrong path is an error, not silently the defaults."""
    with pytest.raises(ConfigError, match="does not exist"):
        load(tmp_path / "missing.toml")


def test_drop_ins_win_key_by_key(tmp_path: Path) -> None:
    """A later file replaces keys, not tables."""
    (tmp_path / "conf.d").mkdir()
    main = tmp_path / "agentd.toml"
    main.write_text('[live]\nvoice = "Puck"\nmodel = "one"\n')
    (tmp_path / "conf.d" / "20-b.toml").write_text('live.voice = "Aoede"\n')
    (tmp_path / "conf.d" / "10-a.toml").write_text('live.voice = "Fenrir"\n')
    loaded = load(main)
    assert (loaded.settings.live.voice, loaded.settings.live.model) == ("Aoede", "one")
    assert [file.name for file in loaded.files] == ["agentd.toml", "10-a.toml", "20-b.toml"]


def test_every_problem_is_named_with_its_own_file(tmp_path: Path) -> None:
    """Two files with mistakes give all of them at once, each under its file."""
    (tmp_path / "conf.d").mkdir()
    main = tmp_path / "agentd.toml"
    main.write_text("[vad]\naggressiveness = 7\n")
    drop_in = tmp_path / "conf.d" / "x.toml"
    drop_in.write_text('[audio]\necho_cancellation = "maybe"\n')
    with pytest.raises(ConfigError) as caught:
        load(main)
    named = {(problem.file, problem.key) for problem in caught.value.problems}
    assert named == {
        (str(main), "vad.aggressiveness"),
        (str(drop_in), "audio.echo_cancellation"),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("live.modle = 'x'", ["live.modle", "unknown key", "Did you mean live.model?"]),
        ("audio.voice = 'x'", ["unknown key", "Did you mean live.voice?"]),
        ("nonsense.key = 1", ["nonsense", "unknown key", "Known here: live"]),
        ("gpio.zzz = 1", ["gpio.zzz", "Known here: status_led"]),
        ("live = 3", ["live = 3"]),
        ("vad.onset_ms = 10", ["vad.onset_ms = 10", "20 to 500"]),
        ("vad.onset_ms = '60'", ["vad.onset_ms = '60'", "whole number"]),
        ("vad.onset_ms = true", ["vad.onset_ms = True"]),
        ("gpio.status_rgb = [1, 2]", ["gpio.status_rgb"]),
        ("gpio.status_rgb = [1, 2, 99]", ["gpio.status_rgb = 99"]),
        ("gpio.button = 17\ngpio.status_rgb = [17, 27, 22]", ["gpio.button", "pin 17"]),
        ("gpio.status_led = 4\ngpio.status_rgb = [17, 27, 22]", ["status_led is set too"]),
        ("live.compression.trigger_tokens = 4999", ["5000 to 128000"]),
        ("live.compression.target_tokens = 25600", ["below trigger_tokens", "0 to 25599"]),
        (
            "live.model = 'gemini-live-2.5-flash'\nlive.compression.trigger_tokens = 64000",
            ["context window of gemini-live-2.5-flash (32000 tokens)"],
        ),
        ("vad.hangover_ms = 5000\nvad.max_utterance_s = 5", ["below max_utterance_s"]),
        ("audio.capture_device = 'file:x.wav'", ["needs an absolute path"]),
        (
            "audio.capture_device = 'file:/x.wav'\naudio.playback_device = 'file:/x.wav'",
            ["is the file that is captured from"],
        ),
        (
            "live.thinking_level = 'low'",
            ["live.thinking_level = 'low'", "gemini-3.8-live takes no thinking level"],
        ),
        (
            "live.model = 'gemini-3.8-live-extended-thinking'\nlive.thinking_level = 'minimal'",
            ["live.thinking_level = 'minimal'", "Allowed: low, medium, high"],
        ),
        ("live.thinking_level = 'deep'", ["live.thinking_level = 'deep'", "'minimal', 'low'"]),
        (
            "live.transcription.vocabulary = ['sambal']",
            ["live.transcription.vocabulary", "gemini-3.8-live does not take it"],
        ),
        (
            "live.transcription.mode = 'smart'",
            ["live.transcription.mode = 'smart'", "choose another live.model"],
        ),
        (
            "live.model = 'gemini-live-2.5-flash'\nlive.transcription.languages = ['id-ID']",
            ["live.transcription.languages", "does not take it"],
        ),
        (
            "live.model = 'gemini-3.5-transcribe-live'",
            ["live.model", "never answers", "gemini-3.8-live"],
        ),
        ("live.transcription.languages = ['English']", ["live.transcription.languages"]),
        ("live.base_url = 'ftp://x'", ["live.base_url", "https://127.0.0.1:9443"]),
        ("live.base_url = 'https://me:pw@x'", ["live.base_url = '…': it has a login in it"]),
        ("sounds.quiet_hours = '25:00-07:00'", ["22:00-07:00"]),
    ],
)
def test_a_wrong_value_is_told_with_its_remedy(text: str, said: list[str]) -> None:
    """Each mistake names key, value and what is allowed."""
    (problem,) = problems_of(text)
    assert [part for part in said if part not in problem] == []


def test_long_values_are_cut_in_messages() -> None:
    """A 100 kB value does not flood the journal."""
    (problem,) = problems_of(f"live.system_instruction = '{'x' * 100_000}'")
    assert len(problem) < 400


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"a = ", "not valid TOML"),
        (b"# " + b"x" * (1 << 20), "larger than"),
        (b"a = " + b"[" * 100_000, "not valid TOML"),
    ],
)
def test_an_unreadable_file_is_told(tmp_path: Path, raw: bytes, said: str) -> None:
    """Garbage in a configuration file is one clear problem."""
    file = tmp_path / "agentd.toml"
    file.write_bytes(raw)
    with pytest.raises(ConfigError, match=said):
        load(file)


def test_a_directory_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    """A directory is not a configuration file."""
    with pytest.raises(ConfigError, match="is a directory, not a file"):
        load(tmp_path)


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    """Missing permission is named, not taken for an empty file."""
    file = tmp_path / "agentd.toml"
    file.write_text("")
    file.unlink()
    file.symlink_to(file)  # a loop: unreadable for root, too
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").symlink_to("a.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(file, required=False)


@pytest.mark.parametrize("error", [MemoryError, RecursionError, ValueError, OSError])
def test_whatever_goes_wrong_with_the_files_is_a_bad_configuration(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit does not restart on that; on a traceback it would, for ever."""

    def fails(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr("agentd.config.files.parse", fails)
    with pytest.raises(ConfigError, match=f"cannot be used .{error.__name__}"):
        load(tmp_path / "agentd.toml", required=False)


@given(st.binary(max_size=200))
def test_no_bytes_whatever_crash_the_loader(raw: bytes) -> None:
    """Any content gives settings or a `ConfigError`."""
    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return
    with contextlib.suppress(ConfigError):
        assert isinstance(parse([(HERE, table)]), Settings)


def test_the_shipped_file_is_the_defaults() -> None:
    """Every line of the shipped file is a comment or a table, and means the defaults."""
    assert parse([(HERE, tomllib.loads(config_docs.toml()))]) == Settings()


def test_the_shipped_file_is_right_with_any_key_uncommented() -> None:
    """Taking the # away from a key gives a valid file, or says that it is for other models."""
    table = ""
    for line in config_docs.toml().splitlines():
        if line.startswith("["):
            table = line
        if re.match(r"# [a-z_]+ = ", line):
            said = problems_in(f"{table}\n{line[2:]}\n")
            assert [problem for problem in said if "choose another live.model" not in problem] == []


def test_the_shipped_file_is_up_to_date() -> None:
    """config/agentd.toml and docs/operator/configuration.md come from the schema (`make docs`)."""
    root = Path(__file__).parent.parent
    assert (root / "config" / "agentd.toml").read_text() == config_docs.toml()
    assert (root / "docs" / "operator" / "configuration.md").read_text() == config_docs.markdown()


def test_shown_settings_read_back_as_the_same() -> None:
    """`agentd config show` prints a file that means what is in force."""
    settings = parse([(HERE, {"gpio": {"status_rgb": [17, 27, 22]}, "live": {"voice": 'a"b'}})])
    assert parse([(HERE, tomllib.loads(config_docs.settings_toml(settings)))]) == settings


def test_every_key_is_described() -> None:
    """No key without a text and a default."""
    assert [key for key, field in walk_fields() if not field.description] == []
    assert [key for key, field in walk_fields() if field.is_required()] == []


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("gemini-3.8-live", 131_072),
        ("gemini-live-2.5-flash", 32_000),
        ("gemini-live-2.5-flash-native-audio", 128_000),
        ("something-new", 128_000),
    ],
)
def test_context_windows(model: str, tokens: int) -> None:
    """Known models have their documented window, unknown ones the API's bound."""
    assert model_keys(model).window_tokens == tokens


@pytest.mark.parametrize(
    ("text", "hours"),
    [("", 2), ("live.backend='vertex'", 24), ("live.handle_lifetime_h=0.5", 0.5)],
)
def test_handle_lifetime_follows_the_backend(text: str, hours: float) -> None:
    """2 h on the Developer API, 24 h on Vertex, or as set."""
    assert parse([(HERE, tomllib.loads(text))]).handle_lifetime_s == hours * 3600


def test_a_button_that_alone_confirms_must_be_there() -> None:
    """Else nothing could ever be confirmed."""
    (problem,) = problems_of('[tools]\nconfirm = "button"')
    assert "tools.confirm" in problem
    assert "there is no button to press" in problem
    assert 'tools.confirm to "voice"' in problem
    both = tomllib.loads('[tools]\nconfirm = "button"\n[gpio]\nbutton = 5')
    assert parse([(HERE, both)]).tools.confirm == "button"


def test_what_a_model_takes_is_accepted_and_an_unknown_one_is_believed() -> None:
    """A level that its row has, and anything for a name that the table does not know."""
    level = "live.model = 'gemini-3.8-live-extended-thinking'\nlive.thinking_level = 'high'"
    assert parse([(HERE, tomllib.loads(level))]).live.thinking_level == "high"
    text = (
        "live.model = 'gemini-5-live'\nlive.thinking_level = 'minimal'\n"
        "live.transcription.vocabulary = ['sambal']\nlive.transcription.mode = 'smart'"
    )
    assert parse([(HERE, tomllib.loads(text))]).live.transcription.mode == "smart"

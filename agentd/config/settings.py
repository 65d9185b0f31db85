"""The settings: one frozen tree, the single source of the keys.

Defaults, units, ranges and texts for `agentd config schema`, docs/operator/configuration.md and the
error messages all come from it. `agentd.config.files` reads files into it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A table of the configuration; unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Gpio = Annotated[int, Field(ge=0, le=57)]  # BCM numbers of the header and compute modules
Tag = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Phrase = Annotated[str, Field(min_length=1, max_length=100)]
Text = Annotated[str, Field(max_length=65_536)]
# What useradd(8) takes for a name: 32 characters at most.
Group = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
# Tuples come from TOML arrays, integers are welcome where a float is meant.
Real = Annotated[float, Field(strict=False)]


class Compression(Section):
    """Sliding-window context compression: what lets a session live longer than 15 minutes."""

    enabled: bool = Field(True, description="compress the context when it grows")
    trigger_tokens: int = Field(
        25_600, ge=5_000, le=128_000, description="context size at which the oldest turns go"
    )
    target_tokens: int = Field(
        12_800, ge=0, le=128_000, description="context size to come down to; below the trigger"
    )


class Transcription(Section):
    """Text of what was said, from the service. Needed to restore context on a fresh session."""

    input: bool = Field(True, description="transcribe the user")
    output: bool = Field(True, description="transcribe the reply")
    languages: Annotated[tuple[Tag, ...], Field(strict=False, max_length=10)] = Field(
        (),
        examples=[["en-US", "id-ID"]],
        description="hints for the user's transcription, BCP 47; empty: recognised by itself",
    )
    vocabulary: Annotated[tuple[Phrase, ...], Field(strict=False, max_length=1000)] = Field(
        (),
        examples=[["Kirana", "sambal"]],
        description="names and terms to listen for, where the model takes them; 100 do best",
    )
    mode: Literal["verbatim", "smart"] | None = Field(
        None,
        examples=["smart"],
        description="smart leaves out fillers and false starts, where the model takes it",
    )


class Live(Section):
    """The Live API session."""

    backend: Literal["developer", "vertex"] = Field(
        "developer", description="Gemini Developer API or Vertex AI"
    )
    model: str = Field("gemini-3.8-live", min_length=1, max_length=256, description="model name")
    api_version: str = Field(
        "v1beta",
        pattern=r"^v\d+((alpha|beta)\d*)?$",
        examples=["v1beta", "v1"],
        description="API version in the path",
    )
    base_url: str | None = Field(
        None,
        min_length=1,
        examples=["https://127.0.0.1:9443"],
        description="another endpoint (https): emulator or gateway",
    )
    project: str | None = Field(
        None, min_length=1, examples=["my-project"], description="Vertex: Google Cloud project"
    )
    location: str = Field("us-central1", min_length=1, description="Vertex: region or `global`")
    voice: str = Field("Kore", min_length=1, max_length=64, description="prebuilt voice")
    language: str = Field(
        "en-US",
        pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$",
        examples=["en-US", "id-ID"],
        description="BCP 47 tag of the language spoken",
    )
    system_instruction: Text = Field(
        "You are a helpful voice in the kitchen. Answer briefly.",
        description="who the assistant is and how it speaks",
    )
    temperature: Real | None = Field(
        None, ge=0.0, le=2.0, examples=[0.7], description="sampling temperature"
    )
    thinking_level: Literal["minimal", "low", "medium", "high"] | None = Field(
        None,
        examples=["low"],
        description="how much the model thinks before it speaks, where it takes a level; "
        "extended thinking: low unless set",
    )
    activity_detection: Literal["local", "server"] = Field(
        "local", description="who frames speech: agentd's gate, or the service's detector"
    )
    transparent_resumption: bool = Field(
        True, description="Vertex: replay by message index after a break"
    )
    handle_lifetime_h: Real | None = Field(
        None,
        gt=0.0,
        le=168.0,
        examples=[2.0],
        description="how long a resumption handle is tried; default 2 (developer), 24 (vertex)",
    )
    idle_release_min: Real | None = Field(
        None,
        ge=0.0,
        le=1440.0,
        examples=[5.0],
        description="close after this much quiet, 0 = never; speech reopens; "
        "default 0, or 5 with attention.mode = wake-word",
    )
    connect_timeout_s: Real = Field(10.0, ge=1.0, le=120.0, description="TLS and handshake")
    setup_timeout_s: Real = Field(10.0, ge=1.0, le=120.0, description="until setupComplete")
    reply_timeout_s: Real = Field(
        15.0, ge=2.0, le=300.0, description="a turn without any sign of life ends the connection"
    )
    go_away_margin_s: Real = Field(
        5.0, ge=1.0, le=45.0, description="before the announced end, switch even in mid-speech"
    )
    dials_per_min: int = Field(20, ge=2, le=120, description="upper bound of connection attempts")
    backoff_max_s: Real = Field(60.0, ge=1.0, le=3600.0, description="longest wait between dials")
    compression: Compression = Compression()
    transcription: Transcription = Transcription()


class Audio(Section):
    """Microphone and speaker."""

    capture_device: str = Field(
        "default", min_length=1, description="ALSA PCM name, card id, file:/path.wav or pipe:/path"
    )
    playback_device: str = Field(
        "default",
        min_length=1,
        description="ALSA PCM name, card id, file:/path.wav, pipe:/path, or null for none",
    )
    capture_channel: int = Field(
        0, ge=0, le=31, description="which channel of a microphone array to hear"
    )
    echo_cancellation: Literal["auto", "on", "off", "hardware"] = Field(
        "auto",
        description=(
            "auto: cancel if the extra aec is installed, unless agentd doctor measured that there "
            "is no echo; on: cancel, and warn if it is missing; off: half duplex, speech cannot "
            "interrupt a reply; hardware: the device cancels its own echo (speakerphone, headset)"
        ),
    )
    half_duplex_tail_ms: int = Field(
        300, ge=0, le=3000, description="without cancellation: closed this long after a reply"
    )
    barge_in: bool = Field(True, description="speech stops a reply")
    cushion_ms: int = Field(
        80, ge=20, le=1000, description="reply audio gathered before the speaker starts"
    )
    keep_alive: bool = Field(
        True, description="keep the speaker's clock running between replies (no pops)"
    )
    noise_suppression: bool = Field(
        False, description="suppress noise by 12 dB; needs the canceller"
    )
    capture_gain_db: Real = Field(0.0, ge=-20.0, le=40.0, description="gain before the gate")
    volume_percent: int = Field(
        70, ge=0, le=100, description="volume at the first start; later ones are remembered"
    )
    mixer_control: str = Field(
        "auto",
        min_length=1,
        max_length=64,
        examples=["Speaker"],
        description="auto: the card's volume control if it has one; software; or a control's name",
    )


class Vad(Section):
    """The voice gate."""

    detector: Literal["auto", "cascade", "silero", "webrtc"] = Field(
        "auto",
        description="cascade: webrtcvad wakes a neural detector (extra vad); auto: cascade if "
        "installed, else webrtc",
    )
    aggressiveness: int = Field(2, ge=0, le=3, description="webrtcvad mode, for webrtc")
    onset_ms: int = Field(60, ge=20, le=500, description="speech needed to open")
    hangover_ms: int = Field(600, ge=100, le=5000, description="silence needed to close")
    pre_roll_ms: int = Field(300, ge=0, le=2000, description="sound kept from before the onset")
    min_utterance_ms: int = Field(
        120, ge=0, le=2000, description="shorter speech is taken for a click"
    )
    max_utterance_s: Real = Field(60.0, ge=5.0, le=600.0, description="longer speech is split")
    level_floor_dbfs: Real = Field(
        -60.0, ge=-96.0, le=-10.0, description="quieter frames are never speech"
    )


class Word(Section):
    """One wake word: how readily it is heard, and who answers to it."""

    sensitivity: Literal["low", "medium", "high"] | None = Field(
        None, description="how readily it is heard; default attention.sensitivity"
    )
    threshold: Real | None = Field(
        None, ge=0.05, le=0.995, description="score that counts, in place of a sensitivity"
    )
    stops: bool = Field(
        False, description="it ends a reply, timer or alarm and does not open the gate"
    )
    voice: str | None = Field(
        None, min_length=1, max_length=64, description="prebuilt voice that answers"
    )
    language: str | None = Field(
        None,
        pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$",
        description="BCP 47 tag of the language spoken",
    )
    system_instruction: Annotated[str, Field(max_length=65_536)] | None = Field(
        None, description="who answers"
    )


WordName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class AttentionSection(Section):
    """Who may open the gate: everybody, or whoever says the word.

    `[attention.word.NAME]` tables take `sensitivity`, `threshold`, `stops`, `voice`, `language` and
    `system_instruction` for one word.
    """

    mode: Literal["open", "wake-word"] = Field(
        "open",
        description="open: whatever is said is sent; wake-word: nothing is sent before the word, "
        "the button, or in the time after a reply",
    )
    words: Annotated[tuple[WordName, ...], Field(strict=False)] = Field(
        ("okay_nabu",),
        min_length=1,
        max_length=8,
        description="names of models, bundled or your own; `agentd wake list` shows them",
    )
    sensitivity: Literal["low", "medium", "high"] = Field(
        "medium", description="how readily words are heard: fewer misses, or fewer false alarms"
    )
    listen_s: Real = Field(
        6.0, ge=2.0, le=30.0, description="how long a command is waited for after the word"
    )
    follow_up_s: Real = Field(
        8.0, ge=0.0, le=60.0, description="no word is needed this long after a reply; 0 = always"
    )
    follow_up_after: Literal["reply", "question"] = Field(
        "reply", description="which replies are followed up: all, or those that ask something"
    )
    keep_word: bool = Field(False, description="send the word as well, not only what follows it")
    ready_tone: bool = Field(False, description="a short sound when the word was heard")
    without_words: Literal["push-to-talk", "deaf"] = Field(
        "push-to-talk",
        description="if no word can be listened for: only the button opens the gate, or nothing",
    )
    models: str = Field(
        "/etc/agentd/wake", min_length=1, max_length=4096, description="folder of your own models"
    )
    word: dict[WordName, Word] = Field({}, description="tables of single words")


class GpioPins(Section):
    """Lights, button and switch, by BCM pin number. Nothing configured is fine."""

    status_led: Gpio | None = Field(None, examples=[25], description="single status LED")
    status_pwm: bool = Field(True, description="dim the single LED by PWM instead of blinking it")
    status_rgb: Annotated[tuple[Gpio, Gpio, Gpio], Field(strict=False)] | None = Field(
        None, examples=[(17, 27, 22)], description="red, green, blue"
    )
    mute_led: Gpio | None = Field(None, examples=[23], description="separate LED, lit while muted")
    active_high: bool = Field(True, description="false: LEDs light when the pin is low")
    button: Gpio | None = Field(None, examples=[5], description="push button to ground")
    button_mode: Literal["tap", "push-to-talk"] = Field(
        "tap", description="tap to talk, or talk while held"
    )
    mute_switch: Gpio | None = Field(
        None, examples=[6], description="hardware mute switch to ground"
    )
    chip: int | None = Field(
        None,
        ge=0,
        le=31,
        examples=[0],
        description="gpiochip number; left out: the header's, by its label (Raspberry Pi only)",
    )
    brightness_percent: int = Field(100, ge=5, le=100, description="of all LEDs")


class Network(Section):
    """The path to the service."""

    monitor: bool = Field(True, description="follow route and address changes (netlink)")
    debounce_ms: int = Field(200, ge=0, le=5000, description="changes this close count as one")
    tcp_user_timeout_ms: int = Field(
        10_000, ge=1_000, le=120_000, description="unacknowledged data this old ends the connection"
    )
    keepalive_s: Real = Field(20.0, ge=5.0, le=300.0, description="WebSocket ping interval")
    pong_timeout_s: Real = Field(
        30.0, ge=5.0, le=300.0, description="late pongs of 8-30 s are normal for the service"
    )
    replay_max_age_s: Real = Field(
        20.0, ge=0.0, le=300.0, description="older speech is dropped, and the user is notified"
    )


class Privacy(Section):
    """What is kept, and for how long."""

    restore_context: bool = Field(
        True, description="keep a bounded transcript so that a fresh session knows the conversation"
    )
    transcript_max_turns: int = Field(40, ge=1, le=1000, description="oldest turns go first")
    transcript_max_age_h: Real = Field(
        24.0, gt=0.0, le=8760.0, description="older turns are deleted"
    )


class Sounds(Section):
    """Earcons and spoken causes."""

    enabled: bool = Field(True, description="play earcons and spoken causes")
    language: str = Field(
        "en", pattern=r"^[a-z]{2,3}$", examples=["en", "id"], description="of spoken causes"
    )
    volume_percent: int = Field(60, ge=0, le=100, description="relative to replies")
    quiet_hours: str | None = Field(
        None,
        pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$",
        examples=["22:00-07:00"],
        description="local time without sounds, alarms excepted",
    )


class Tools(Section):
    """Functions the model may call."""

    enabled: bool = Field(True, description="offer the built-in functions to the model")
    timeout_s: Real = Field(10.0, ge=1.0, le=120.0, description="deadline of one call")
    confirm: Literal["voice", "button", "off"] = Field(
        "voice",
        description=(
            "what must confirm forgetting, cancelling several timers, muting and loud nights: "
            "voice: an answer to the question, or the button; button: only the button; off: nothing"
        ),
    )
    night_volume_percent: int = Field(
        70,
        ge=0,
        le=100,
        description=(
            "louder than this needs a confirmation in sounds.quiet_hours (22:00-07:00 if unset); "
            "100 = never"
        ),
    )


class Control(Section):
    """Who may do what over the control socket beyond the commands of the group agentd."""

    tools_group: Group = Field(
        "agentd-tools",
        examples=["agentd-tools"],
        description="system group whose members may offer functions to the model",
    )
    transcripts_group: Group = Field(
        "agentd-transcripts",
        examples=["agentd-transcripts"],
        description="system group whose members may read what is said",
    )


class Log(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level")
    format: Literal["auto", "journal", "text", "json"] = Field(
        "auto", description="auto: journal under systemd, else text"
    )


WAKE_RELEASE_MIN = 5.0  # a quiet night costs nothing, and the word dials


class Settings(Section):
    """The whole configuration."""

    live: Live = Live()
    audio: Audio = Audio()
    vad: Vad = Vad()
    attention: AttentionSection = AttentionSection()
    gpio: GpioPins = GpioPins()
    network: Network = Network()
    privacy: Privacy = Privacy()
    sounds: Sounds = Sounds()
    tools: Tools = Tools()
    control: Control = Control()
    log: Log = Log()

    @property
    def idle_release_s(self) -> float:
        """Return after how much quiet the connection is closed, 0: never."""
        default_min = WAKE_RELEASE_MIN if self.attention.mode == "wake-word" else 0.0
        chosen_min = self.live.idle_release_min
        return (default_min if chosen_min is None else chosen_min) * 60.0

    def answering_to(self, word: str) -> Settings:
        """Return these settings with voice, language and instruction of whom `word` calls."""
        profile = self.attention.word.get(word)
        if profile is None:
            return self
        names = ("voice", "language", "system_instruction")
        own = {name: value for name in names if (value := getattr(profile, name)) is not None}
        return self.model_copy(update={"live": self.live.model_copy(update=own)})

    @property
    def handle_lifetime_s(self) -> float:
        """Return how long a handle is worth trying (Live API docs: 2 h Developer, 24 h Vertex)."""
        default_h = 24.0 if self.live.backend == "vertex" else 2.0
        return (self.live.handle_lifetime_h or default_h) * 3600.0

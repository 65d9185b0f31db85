"""Which detector listens, by configuration and by what is installed."""

from __future__ import annotations

from agentd.config.settings import Vad
from agentd.vad.cascade import AGGRESSIVENESS, CascadeDetector
from agentd.vad.silero import ProcessorTooOld, SileroDetector, VoiceModel, load_model
from agentd.vad.webrtc import Detector, WebrtcDetector, WebrtcModel


def choose_detector(settings: Vad) -> tuple[Detector, str]:
    """Return the detector and, if it is not the one that was asked for, what to do about it."""
    floor_dbfs = settings.level_floor_dbfs
    plain = WebrtcDetector(settings.aggressiveness, floor_dbfs)
    if settings.detector == "webrtc":
        return plain, ""
    try:
        model: VoiceModel = load_model()
    except ProcessorTooOld as error:
        return plain, (
            f"{error}, and this one has none; noise will open the gate more often. "
            'Set vad.detector = "webrtc"'
        )
    except (ImportError, OSError) as error:
        return plain, (
            f"the neural voice detector is missing ({error}); noise will open the gate more often. "
            "Install the extra: pip install 'agentd[vad]', or set vad.detector = \"webrtc\""
        )
    if settings.detector == "silero":
        return SileroDetector(model, floor_dbfs), ""
    return CascadeDetector(WebrtcModel(AGGRESSIVENESS), model, floor_dbfs), ""

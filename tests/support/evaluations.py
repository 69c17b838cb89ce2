"""A small, made-up evaluation with its audio, for the tests of the listening page."""

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.evaluation.results import ClipResult, Evaluation, Measure

SAMPLE_RATE_HZ = 16_000
TONE_HZ = 1_000
DURATION_S = 0.6
SYSTEMS = ("reference", "voice", "g722")
HOSTILE = '</script><img src="http://example.invalid/x.png" onerror="document.title = 1">'
"""A clip's name that would become markup, load from the network and run, if it were pasted in."""

# Clip → (speaker, PESQ of the voice, of G.722); the last has none.
CLIPS = {
    "middling": ("anna", 2.5, 3.9),
    "worst": ("bert", 1.2, 3.5),
    "best": ("anna", 3.1, 3.7),
    HOSTILE: ("bert", None, None),
}


def small_evaluation() -> tuple[Evaluation, dict[tuple[str, str], FloatArray]]:
    """Four clips by two speakers: a tone as the original, noise as the voice, a soft tone as G.722."""
    t = np.arange(round(DURATION_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tone = np.sin(2 * np.pi * TONE_HZ * t)
    rng = np.random.default_rng(0)
    audio: dict[tuple[str, str], FloatArray] = {}
    clips = []
    for name, (speaker, *pesqs) in CLIPS.items():
        for system, pesq in zip(SYSTEMS, (None, *pesqs), strict=True):
            made = {"reference": 0.5 * tone, "voice": 0.1 * rng.standard_normal(t.size), "g722": 0.1 * tone}
            audio[name, system] = made[system].astype(np.float32)
            figures = {} if pesq is None else {"pesq": pesq, "silence_db": 3 - 2 * pesq}
            clips.append(ClipResult(name, speaker, system, figures, DURATION_S))
    evaluation = Evaluation(
        voice={"steps": 21_000, "speakers": ["anna", "bert"], "loss": float("nan"), "licence": ""},
        measures=(
            Measure("pesq", "PESQ", "", True, "ITU-T P.862.2"),
            Measure("silence_db", "Silence level", "dB", None, "made up"),
        ),
        missing=(("DNSMOS", "pip install speechmos"),),
        clips=tuple(clips),
        settings={"voice": "<small>.safetensors", "seed": 0},
    )
    return evaluation, audio

"""The listening page: one HTML file with all clips, figures and a blind comparison, for any browser.

The page's own text lives in `page/`: its markup, its style, and its scripts in the order in which they
are put together. All that differs from one evaluation to another goes in as one JSON document, which the
scripts show as text only; here nothing is pasted into markup but the title.
"""

import base64
import hashlib
import html
import json
import string
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from gru_audio.arrays import FloatArray
from gru_audio.evaluation.results import (
    CODEC,
    G722,
    GRIFFIN_LIM,
    NETWORK,
    REFERENCE,
    VOICE,
    ClipResult,
    Evaluation,
    Measure,
    MeasureSummary,
)
from gru_audio.files import atomic_path
from gru_audio.names import shown
from gru_audio.signal.audio import finite
from gru_audio.signal.audio_file.writing import encode_audio
from gru_audio.voice.run_folder import VOICE_FILE

PAGE_FILE = "index.html"

_SCRIPTS = ("elements.js", "figures.js", "spectrogram.js", "player.js", "panel.js", "clips.js", "blind.js")
_SYSTEMS = {
    REFERENCE: ("Original", "the clip itself"),
    VOICE: ("Voice", "this voice, from the clip's mel spectrogram alone"),
    NETWORK: ("Network", "the voice without the spectral correction: what its network makes by itself"),
    CODEC: ("Codec", "the voice's linear prediction and mu-law codes with no network: the best it could do"),
    G722: ("G.722", "the original sent through the G.722 telephone codec at 64 kbit/s"),
    GRIFFIN_LIM: ("Griffin-Lim", "the same mel spectrogram turned to sound by the Griffin-Lim algorithm"),
}
"""Label and meaning of each system, in the page's order."""


def write_report(
    folder: Path,
    evaluation: Evaluation,
    audio: Mapping[tuple[str, str], FloatArray],
    sample_rate_hz: int,
) -> Path:
    """Write the listening page of an evaluation as one file that needs no other and no network.

    The audio goes in as 16-bit FLAC in base64: at 16 kHz some 25 kB a second for each system.

    Args:
        folder: where `index.html` is put; made where it is missing.
        evaluation: the figures.
        audio: (n_samples,) by clip's name and system, full scale at 1; what is over it is clipped. A
            system without audio of a clip, or with none of its samples, is left out of that clip.
        sample_rate_hz: of all the audio.

    Returns:
        The page's path.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / PAGE_FILE
    page = _page(_document(evaluation, audio, sample_rate_hz))
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _page(document: Mapping[str, Any]) -> str:
    parts = resources.files("gru_audio.evaluation") / "page"
    style = (parts / "page.css").read_text(encoding="utf-8")
    script = "\n".join((parts / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    template, panel = (
        string.Template((parts / name).read_text(encoding="utf-8")) for name in ("page.html", "panel.html")
    )
    return template.substitute(
        title=html.escape(shown(document["title"])),
        policy=_policy(style, script),
        style=style,
        script=script,
        panel=panel.substitute(level=4),  # of its heading, under a clip's
        # No "<" is left that could end the element or open a comment in it.
        data=json.dumps(document, allow_nan=False, separators=(",", ":")).replace("<", r"\u003c"),
    )


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy under which the browser itself refuses the network and any other script."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "media-src data:; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _document(
    evaluation: Evaluation, audio: Mapping[tuple[str, str], FloatArray], sample_rate_hz: int
) -> dict[str, Any]:
    """All that the scripts show, fit for JSON."""
    present = {clip.system for clip in evaluation.clips} | {system for _, system in audio}
    systems = [key for key in _SYSTEMS if key in present]
    clips = _clips(evaluation.clips, audio, sample_rate_hz)
    judged = [measure.key for measure in evaluation.measures if measure.key in evaluation.summary(VOICE)]
    settings = {**evaluation.settings}
    for key in ("voice", "source"):  # a page goes to others, whom the folders of this machine do not concern
        if key in settings:
            settings[key] = _name_of(str(settings[key]))
    document = {
        "title": f"Listening to {settings.get('voice', 'a voice')}",
        "subtitle": f"{len(clips)} clips at {sample_rate_hz} Hz; clips and figures are all in this one file.",
        "sample_rate_hz": sample_rate_hz,
        "systems": [{"key": key, "label": _SYSTEMS[key][0], "meaning": _SYSTEMS[key][1]} for key in systems],
        "measures": [_measure(measure) for measure in evaluation.measures],
        "sort_measure": next(iter(judged), ""),
        "sort_system": VOICE if VOICE in systems else next(iter(systems), ""),
        "speakers": evaluation.speakers,
        "summary": {key: _summaries(evaluation.summary(key)) for key in systems},
        "by_speaker": {
            key: {speaker: _summaries(found) for speaker, found in evaluation.by_speaker(key).items()}
            for key in systems
        },
        "clips": clips,
        "missing": [f"{what}: {mend}" for what, mend in evaluation.missing] + list(evaluation.notes),
        "settings": _plain(settings),
        "voice": _plain(evaluation.voice),
    }
    # Answers that a browser keeps belong to these very clips.
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return {"id": digest[:16], **document}


def _name_of(path: str) -> str:
    """What a file or folder is called; a run's voice is called after the run."""
    found = Path(path)
    if found.name == VOICE_FILE:
        return found.absolute().parent.name
    return (found.stem if found.suffix == ".safetensors" else found.name) or path


def _clips(
    results: Iterable[ClipResult], audio: Mapping[tuple[str, str], FloatArray], sample_rate_hz: int
) -> list[dict[str, Any]]:
    clips: dict[str, dict[str, Any]] = {}
    for result in results:
        clip = clips.setdefault(
            result.name,
            {
                "name": result.name,
                "speaker": result.speaker,
                "duration_s": result.duration_s,
                "figures": {},
                "audio": {
                    system: _data_uri(audio[result.name, system], sample_rate_hz)
                    for system in _SYSTEMS
                    if (result.name, system) in audio and audio[result.name, system].size
                },
            },
        )
        clip["figures"][result.system] = {key: finite(figure) for key, figure in result.figures.items()}
    return list(clips.values())


def _data_uri(audio: FloatArray, sample_rate_hz: int) -> str:
    encoded = base64.b64encode(encode_audio(audio, sample_rate_hz, "FLAC"))
    return f"data:audio/flac;base64,{encoded.decode()}"


def _measure(measure: Measure) -> dict[str, str]:
    better = {True: "higher", False: "lower", None: "zero"}[measure.higher_is_better]
    return {
        "key": measure.key,
        "title": measure.title,
        "unit": measure.unit,
        "better": better,
        "source": measure.source,
    }


def _summaries(summaries: Mapping[str, MeasureSummary]) -> dict[str, dict[str, float | None]]:
    return {
        key: {"mean": finite(summary.mean), "worst": finite(summary.worst)}
        for key, summary in summaries.items()
    }


def _plain(value: Any) -> Any:
    """Metadata as JSON knows it; what it does not know becomes text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return finite(value)
    return value if isinstance(value, str | int | None) else str(value)

"""Make the bundled voice from a run: weights in half precision, and its model card.

gru-audio evaluate DATASET --voice RUN --json > evaluation.json
python recipes/debian-voices/bundle.py RUN evaluation.json OUT
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from licences import attribution, described, shared_under

from gru_audio.errors import GruAudioError
from gru_audio.voice.voice import Voice, in_half_precision, load_voice, save_voice

LIMITS = (
    "Most of its {n} speakers have minutes of speech, and training took hours: other voices sound rougher, singing and "
    "music poor. Much of the speech was G.722, whose faint hiss above 4 kHz it has learned; nothing is above 8 kHz."
)
NOT_FOR = "passing as one of its speakers or anyone else, or any use that their licences exclude"
CHANGES = "The speech was changed: decoded, trimmed, levelled and made into a network's weights."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    try:
        bundle(arguments.run, arguments.evaluation, arguments.out)
    except GruAudioError as error:
        sys.exit(f"error: {error}")


def bundle(run: Path, evaluation: Path, out: Path) -> None:
    """Write a run's voice as the package carries it.

    Raises:
        GruAudioError: the run has no voice, or speakers that the recipe does not know; the evaluation cannot be
            read, or the voice cannot be written.
    """
    voice = load_voice(run)
    try:
        told = metrics(json.loads(evaluation.read_text()))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise GruAudioError(
            f"{evaluation}: not what `gru-audio evaluate DATASET --voice RUN --json` prints "
            f"({type(error).__name__}: {error})"
        ) from error
    speakers = voice.metadata["speakers"]
    metadata = {
        **voice.metadata,
        "dataset": "debian-voices",
        "speakers": described(speakers),
        "licence": shared_under(speakers),
        "source_note": "recipes/debian-voices of gru-audio",
        "card": {
            "metrics": told,
            "attribution": f"{attribution(speakers)}. {CHANGES}",
            "limits": LIMITS.format(n=len(speakers)),
            "not for": NOT_FOR,
        },
    }
    save_voice(out, in_half_precision(Voice(voice.config, voice.tensors, metadata)))


def metrics(evaluation: dict[str, Any]) -> str:
    """The figures of the voice, of what `evaluate --json` printed, in words."""
    found = evaluation["summary"]["voice"]
    told = [
        f"{name} {found[key]['mean']:.{digits}f}"
        for key, name, digits in (
            ("pesq", "PESQ", 2),
            ("estoi", "ESTOI", 3),
            ("dnsmos", "DNSMOS", 2),
            ("log_mel_db", "log-mel distance in dB", 1),
            ("f0_cents", "F0 error in cents", 0),
            ("voicing_error_percent", "voicing errors in percent", 1),
        )
        if key in found
    ]
    n_clips = len({clip["name"] for clip in evaluation["clips"]})
    worst = found["pesq"]["worst"]
    return f"means of {n_clips} held-out clips, free-running: {', '.join(told)}; worst PESQ {worst:.2f}"


if __name__ == "__main__":
    main()

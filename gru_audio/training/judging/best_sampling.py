"""The settings that a finished run's voice is drawn with by default: those that sound best on held-out clips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gru_audio.data.dataset import Dataset
from gru_audio.training.judging.free_running import FreeRunning, Score, Synthesizer
from gru_audio.voice.run_folder import VOICE_FILE
from gru_audio.voice.voice import SAMPLING, Voice, load_voice, save_voice


def choose_sampling(
    run: Path, dataset: Dataset, synthesize: Synthesizer, candidates: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], Score | None]:
    """Let a run's voice make the clips of its free runs with each candidate, and store the best in the voice.

    What it has from the voice that it was fine-tuned from is tried first.

    Args:
        run: a run's folder that holds a voice.
        dataset: that it was trained on; clips of its valid split are made, none that `evaluate` prefers.
        synthesize: as of the run's free runs; it draws as the voice's metadata say.
        candidates: as metadata hold them, the one that wins a draw first.

    Returns:
        The best, and its score; None where no clip could be measured.

    Raises:
        CheckpointError: the run has no voice.
        OutputError: the voice cannot be written.
    """
    voice = load_voice(run)
    own = voice.metadata.get(SAMPLING)
    if own is not None:
        candidates = [own, *(candidate for candidate in candidates if candidate != own)]
    free_running = FreeRunning(dataset, voice.config, synthesize)
    best, best_score = candidates[0], None
    for candidate in candidates:
        made = free_running.run(_drawn_with(voice, candidate))
        score = Score.of(made.figures, 0)
        if score is not None and score.beats(best_score):
            best, best_score = candidate, score
    save_voice(run / VOICE_FILE, _drawn_with(voice, best))
    return best, best_score


def _drawn_with(voice: Voice, sampling: Mapping[str, Any]) -> Voice:
    return Voice(voice.config, voice.tensors, {**voice.metadata, SAMPLING: dict(sampling)})

"""Judging a voice run free: clips through it and through the anchors, every measure of each."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gru_audio.arrays import FloatArray, Made
from gru_audio.config import Config
from gru_audio.errors import AudioError, MelError
from gru_audio.evaluation import anchors
from gru_audio.evaluation.columns import INSTALL_EVAL, MEASURES, WITHOUT_REFERENCE, missing_keys
from gru_audio.evaluation.left_out import SILENT, LeftOut, told
from gru_audio.evaluation.likelihood import Likelihood
from gru_audio.evaluation.results import (
    CODEC,
    G722,
    GRIFFIN_LIM,
    NETWORK,
    REFERENCE,
    SYSTEMS,
    VOICE,
    ClipResult,
    Evaluation,
)
from gru_audio.extras import require
from gru_audio.parallel import map_in_order
from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.quality import measures
from gru_audio.quality.material import Original
from gru_audio.quality.pitch_measures import compare_pitch, track_f0
from gru_audio.signal.audio import resample
from gru_audio.signal.mel_adapt.conversion import convert_mel
from gru_audio.synthesis.sampling import PLAIN_SAMPLING, Sampling
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice.voice import Voice

KeepAudio = Callable[[str, str, FloatArray], None]
"""Takes a clip's name, a system and its audio (n,) at the voice's rate."""

_WARM_UP_FRAMES = 8
_UNVOICED = "no frame is voiced in both, so pitch is not compared"


@dataclass(frozen=True)
class ClipTask:
    """One clip, ready to be measured in any process.

    Attributes:
        original: the clip at the voice's rate.
        mel: (F, M) of it.
        made: (n,) by the voice, and by its network alone.
        figures: the voice's that are known already.
        config: the voice's.
        systems: those to compare.
        skipped: keys of the measures that cannot be computed here.
        keeps_audio: whether the anchors' audio is wanted back.
    """

    original: Original
    mel: FloatArray
    made: Made
    figures: Mapping[str, float]
    config: Config
    systems: Sequence[str]
    skipped: frozenset[str]
    keeps_audio: bool


@dataclass(frozen=True)
class ClipMeasured:
    """What became of a task; audio by system, none where it is not wanted."""

    results: list[ClipResult]
    audio: dict[str, FloatArray]
    left_out: list[LeftOut]


def evaluate(
    voice: Voice,
    originals: Sequence[Original],
    *,
    engine: str = "auto",
    sampling: Sampling = PLAIN_SAMPLING,
    jobs: int | None = None,
    keep: KeepAudio | None = None,
    progress: ProgressCallback = ignore_progress,
    settings: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Run clips through a voice and the anchors, and measure all of it.

    Args:
        voice: see `load_voice`.
        originals: one or more clips at any rate; see `material.find_originals`.
        engine: a name in `synthesis.engines.ENGINES`, or `"auto"`.
        sampling: the same for each clip.
        jobs: processes that measure, one for each CPU core by default. Synthesis is timed alone before.
        keep: called with each clip's audio, the clips in order, each with its systems and "reference".
        progress: done and total are in clips.
        settings: what else the result is to tell of how it was made.

    Raises:
        ConfigError: no such engine, or it cannot run the voice.
        CheckpointError: the voice's tensors do not fit its config.
        MissingPackageError: the extra `eval` is not installed.
    """
    require("eval", "evaluate")
    vocoder = Vocoder(voice, engine)
    likelihood = Likelihood.of(voice, vocoder.engine_name)
    missing = _missing(likelihood is None)
    absent = frozenset(name for name, _ in missing)
    systems = [system for system in SYSTEMS if system not in absent]
    tasks, n_clips = list[ClipTask](), len(originals)
    _warm_up(vocoder, sampling)
    for index, original in enumerate(originals):
        progress(Progress(index / 2, n_clips, {"step": "synthesizing"}))
        tasks.append(_synthesize(vocoder, likelihood, original, sampling, systems, absent, keep is not None))
    results, left_out = list[ClipResult](), list[LeftOut]()
    with contextlib.closing(map_in_order(measure_clip, tasks, jobs)) as measured:
        for index in range(n_clips):
            progress(Progress((n_clips + index) / 2, n_clips, {"step": "measuring"}))
            clip = next(measured)
            results += clip.results
            left_out += clip.left_out
            for system, audio in clip.audio.items():
                if keep is not None:
                    keep(clip.results[0].name, system, audio)
    progress(Progress(n_clips, n_clips))
    return Evaluation(
        voice=voice.metadata,
        measures=tuple(measure for measure in MEASURES if measure.key not in absent),
        missing=missing,
        clips=tuple(results),
        settings={**(settings or {}), "engine": vocoder.engine_name, **asdict(_resolved(vocoder, sampling))},
        notes=told(left_out, systems),
    )


def _missing(without_likelihood: bool) -> tuple[tuple[str, str], ...]:
    """Keys of measures and systems that this machine or voice has to do without, and what would bring them."""
    missing = [(key, INSTALL_EVAL) for key in missing_keys()]
    if without_likelihood:
        missing.append(("nll_bits", "a voice with a gru and a tree, which the compiled engines run"))
    if anchors.ffmpeg_path() is None:
        missing.append((G722, "apt-get install ffmpeg"))
    return tuple(missing)


def _resolved(vocoder: Vocoder, sampling: Sampling) -> Sampling:
    """With the voice's temperature where none was asked for."""
    return replace(sampling, temperature=sampling.temperature_of(vocoder.engine.own))


def _warm_up(vocoder: Vocoder, sampling: Sampling) -> None:
    """Synthesize a little, so that what is done once is not timed."""
    silence = np.zeros(_WARM_UP_FRAMES * vocoder.mel_config.hop_samples, np.float32)
    mel = vocoder.mel(silence, vocoder.sample_rate)
    vocoder.synthesize_both([mel], sampling)


def _synthesize(
    vocoder: Vocoder,
    likelihood: Likelihood | None,
    original: Original,
    sampling: Sampling,
    systems: Sequence[str],
    absent: frozenset[str],
    keeps_audio: bool,
) -> ClipTask:
    """The voice's part of a clip, timed."""
    rate, lead = vocoder.sample_rate, vocoder.mel_config.lead_samples
    audio = resample(original.audio, original.sample_rate_hz, rate)
    mel = _given(original, vocoder)
    mel = vocoder.mel(audio, rate) if mel is None else mel
    began = time.perf_counter()
    (made,) = vocoder.synthesize_both([mel], sampling)
    figures = {"times_real_time": made.audio.size / rate / (time.perf_counter() - began)}
    if likelihood is not None:
        figures["nll_bits"] = likelihood.bits(audio, mel)
    return ClipTask(
        original=Original(original.name, original.speaker, audio, rate),
        mel=mel,
        made=made.cut(lead, audio.size),
        figures=figures,
        config=vocoder.config,
        systems=systems,
        skipped=absent,
        keeps_audio=keeps_audio,
    )


def _given(original: Original, vocoder: Vocoder) -> FloatArray | None:
    """The mel that was given for a clip, as the voice takes it; None where there is none, or none that it can take."""
    if original.mel is None or original.contract is None:
        return None
    try:
        return convert_mel(original.mel, original.contract, vocoder.mel_config)
    except MelError:
        return None


def measure_clip(task: ClipTask) -> ClipMeasured:
    """All systems' audio and figures of one clip."""
    original, results, kept, left_out = task.original, list[ClipResult](), dict[str, FloatArray](), []
    silence = SILENT if measures.is_silent(original.audio) else None
    reference_track = track_f0(original.audio, original.sample_rate_hz)
    for system in task.systems:
        # As a 16-bit file would hold it.
        audio = np.clip(_audio_of(task, system), -1, 1)
        figures = dict(task.figures) if system == VOICE else {}
        for key, measure in _measures_of(task, system, audio).items():
            try:
                figures[key] = measure()
            except AudioError as error:
                left_out.append(LeftOut(original.name, system, silence or str(error)))
        if system != REFERENCE:
            cents, figures["voicing_error_percent"] = compare_pitch(
                reference_track, track_f0(audio, original.sample_rate_hz)
            )
            if cents is None:
                left_out.append(LeftOut(original.name, system, silence or _UNVOICED))
            else:
                figures["f0_cents"] = cents
        duration_s = audio.size / original.sample_rate_hz
        results.append(ClipResult(original.name, original.speaker, system, figures, duration_s))
        if task.keeps_audio:
            kept[system] = audio
    return ClipMeasured(results, kept, left_out)


def _measures_of(task: ClipTask, system: str, audio: FloatArray) -> dict[str, Callable[[], float]]:
    """The measures that apply to a system's audio (n,), the pitch apart."""
    reference, rate, contract = task.original.audio, task.original.sample_rate_hz, task.config.mel
    every: dict[str, Callable[[], float]] = {
        "pesq": lambda: measures.pesq(reference, audio, rate),
        "stoi": lambda: measures.stoi(reference, audio, rate),
        "estoi": lambda: measures.estoi(reference, audio, rate),
        "log_mel_db": lambda: measures.log_mel_distance_db(reference, audio, rate, contract),
        "mr_stft": lambda: measures.multi_resolution_stft_distance(reference, audio),
        "mcd_db": lambda: measures.mel_cepstral_distortion_db(reference, audio, rate, contract),
        "silence_db": lambda: measures.silence_level_db(reference, audio, rate),
        "dnsmos": lambda: measures.dnsmos(audio, rate),
        "distillmos": lambda: measures.distillmos(audio, rate),
    }
    return {
        key: measure
        for key, measure in every.items()
        if key not in task.skipped and (system != REFERENCE or key in WITHOUT_REFERENCE)
    }


def _audio_of(task: ClipTask, system: str) -> FloatArray:
    """(n,) of a system, aligned with the original."""
    original = task.original
    if system == G722:
        return anchors.g722(original.audio, original.sample_rate_hz)
    if system == GRIFFIN_LIM:
        return anchors.griffin_lim(task.mel, task.config.mel, original.audio.size)
    if system == CODEC:
        return anchors.codec_alone(original.audio, task.mel, task.config)
    return {VOICE: task.made.audio, NETWORK: task.made.raw, REFERENCE: original.audio}[system]

"""`gru-audio evaluate`: how good a voice is, in figures and on a page to listen to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gru_audio.cli.console import note, print_json, print_table, progress_bar, say, workers
from gru_audio.cli.options import (
    Cluster,
    EngineName,
    Json,
    Quiet,
    Seed,
    Temperature,
    VoiceName,
    input_argument,
    jobs_option,
    output_option,
)
from gru_audio.voice.bundled import DEFAULT_VOICE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gru_audio.arrays import FloatArray
    from gru_audio.evaluation.results import Evaluation, MeasureSummary

_DIGITS = {"pesq": 2, "stoi": 3, "estoi": 3, "mr_stft": 3, "dnsmos": 2, "distillmos": 2, "nll_bits": 3}


def evaluate(
    source: Annotated[Path, input_argument("DATASET|FOLDER", "A dataset, or a folder or file of audio.")],
    voice: VoiceName = DEFAULT_VOICE,
    output: Annotated[
        Path | None, output_option("DIR", "Also write a page to listen with: DIR/index.html.")
    ] = None,
    clips: Annotated[
        int | None,
        typer.Option(
            "--clips", min=1, help="How many clips.", show_default="24 of a dataset, all of a folder"
        ),
    ] = None,
    engine: EngineName = "auto",
    seed: Seed = 0,
    temperature: Temperature = None,
    jobs: Annotated[int | None, jobs_option("Processes that measure.")] = None,
    cluster: Cluster = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Judge a voice by clips that it was not trained on: it makes them from their mels, and they are measured.

    Of a dataset it takes the clips held out of training, test before valid, evenly from its speakers. For comparison
    it measures a G.722 round trip, Griffin-Lim from the same mel, and the codec with no network, the ceiling.

    What a package or a clip cannot give is left out and named: pip install 'gru-audio[eval]' brings the packages,
    apt-get install ffmpeg brings G.722.

    **Examples**

        gru-audio evaluate recordings/ -o listen/

        gru-audio evaluate datasets/mine --voice runs/mine --clips 12

        gru-audio evaluate datasets/mine --voice runs/mine --json > figures.json
    """
    from gru_audio.evaluation.evaluate import evaluate as run
    from gru_audio.files import require_writable
    from gru_audio.quality.material import find_originals
    from gru_audio.synthesis.sampling import Sampling
    from gru_audio.voice.voice import load_voice

    sampling, loaded = Sampling(seed, temperature), load_voice(voice)
    if output is not None:
        require_writable(output)
    originals, unreadable = find_originals(source, clips, loaded.config.mel.sample_rate_hz)
    for line in unreadable:
        note(line, quiet=quiet)
    audio: dict[tuple[str, str], FloatArray] = {}

    def keep(name: str, system: str, samples: "FloatArray") -> None:
        audio[name, system] = samples

    with workers(cluster, jobs), progress_bar("evaluating", quiet=quiet) as progress:
        evaluation = run(
            loaded,
            originals,
            engine=engine,
            sampling=sampling,
            jobs=jobs,
            keep=keep if output is not None else None,
            progress=progress,
            settings={"voice": voice, "source": str(source)},
        )
    if json:
        print_json(to_document(evaluation))
    else:
        print_evaluation(evaluation)
    for line in (*(f"{name} is left out; {mend}" for name, mend in evaluation.missing), *evaluation.notes):
        note(line, quiet=quiet)
    if output is not None:
        from gru_audio.evaluation.report import write_report

        note(
            f"page: {write_report(output, evaluation, audio, loaded.config.mel.sample_rate_hz)}", quiet=quiet
        )


def to_document(evaluation: "Evaluation") -> dict[str, Any]:
    """All that was found, with the summaries of each system, for JSON."""
    from dataclasses import asdict

    def plain(summaries: "Mapping[str, MeasureSummary]") -> dict[str, Any]:
        return {key: asdict(summary) for key, summary in summaries.items()}

    return {
        **asdict(evaluation),
        "summary": {system: plain(evaluation.summary(system)) for system in evaluation.systems},
        "by_speaker": {
            system: {name: plain(found) for name, found in evaluation.by_speaker(system).items()}
            for system in evaluation.systems
        },
    }


def print_evaluation(evaluation: "Evaluation") -> None:
    """Tell what was found, as tables: the systems, then the voice by speaker."""
    from gru_audio.evaluation.results import VOICE

    settings, names = evaluation.settings, {clip.name for clip in evaluation.clips}
    say(
        f"{settings['voice']}, {evaluation.voice.get('steps', 0):,} steps, engine {settings['engine']}, "
        f"temperature {settings['temperature']:g}, seed {settings['seed']}: "
        f"{len(names)} clip{'s' * (len(names) != 1)} of {settings['source']}"
    )
    units = [f"{measure.title} {measure.unit}".rstrip() for measure in evaluation.measures]
    voice = evaluation.summary(VOICE)
    rows = [_row(f"{VOICE}, mean", evaluation, voice, "mean")]
    rows += [_row(f"{VOICE}, {figure}", evaluation, voice, figure) for figure in ("median", "worst")]
    for system in evaluation.systems:
        if system != VOICE:
            rows.append(_row(f"{system}, mean", evaluation, evaluation.summary(system), "mean"))
    print_table(["system", *units], rows)
    speakers = evaluation.by_speaker(VOICE)
    if len(speakers) > 1:
        rows = [_row(name or "-", evaluation, found, "mean") for name, found in speakers.items()]
        print_table(["voice, mean", *units], rows)


def _row(
    name: str, evaluation: "Evaluation", summaries: "Mapping[str, MeasureSummary]", figure: str
) -> list[str]:
    """A table's row; a measure that was not computed shows as -."""
    cells = [name]
    for measure in evaluation.measures:
        summary = summaries.get(measure.key)
        digits = _DIGITS.get(measure.key, 1)
        cells.append("-" if summary is None else f"{getattr(summary, figure):.{digits}f}")
    return cells

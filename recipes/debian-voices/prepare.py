"""Gather the speech of six people, from Debian's packages, as FLAC: CORPUS/<speaker>/….

apt-get install ffmpeg festvox-ru asterisk-core-sounds-{en,es,fr,it,ru}-g722
python recipes/debian-voices/prepare.py CORPUS

What is there already stays, and a file is there whole or not at all: interrupted, the same command goes on.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from gru_audio.audio import read_audio, write_audio
from gru_audio.errors import DatasetError, GruAudioError
from gru_audio.parallel import map_in_order

ASTERISK = Path("/usr/share/asterisk/sounds")
FESTIVAL = Path("/usr/share/festival/voices/russian")


class Voice(NamedTuple):
    """One speaker's files in one package."""

    speaker: str
    package: str
    folder: Path
    suffix: str


VOICES = [
    Voice("en-allison", "asterisk-core-sounds-en-g722", ASTERISK / "en_US_f_Allison", ".g722"),
    Voice("es-allison", "asterisk-core-sounds-es-g722", ASTERISK / "es_MX_f_Allison", ".g722"),
    Voice("fr-june", "asterisk-core-sounds-fr-g722", ASTERISK / "fr_CA_f_June", ".g722"),
    Voice("it-carlo", "asterisk-core-sounds-it-g722", ASTERISK / "it_IT_m_Carlo", ".g722"),
    Voice("ru-ivrvoice", "asterisk-core-sounds-ru-g722", ASTERISK / "ru_RU_f_IvrvoiceRU", ".g722"),
    Voice("ru-nsh", "festvox-ru", FESTIVAL / "msu_ru_nsh_clunits/wav", ".wav"),
]

# Tones and monkeys; and all of silence/. A vocoder of speech gains nothing from them.
NOT_SPEECH = {
    "ascending-2tone",
    "beep",
    "beeperr",
    "confbridge-join",
    "confbridge-leave",
    "descending-2tone",
    "tt-monkeys",
}


class Job(NamedTuple):
    source: Path
    target: Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    corpus: Path = parser.parse_args().corpus
    try:
        jobs = {voice.speaker: jobs_of(voice, corpus) for voice in VOICES}
        for speaker, wanted in jobs.items():
            missing = [job for job in wanted if not job.target.exists()]
            print(f"{speaker}: {len(wanted)} clips, {len(wanted) - len(missing)} there already", flush=True)
            for _ in map_in_order(convert, missing):
                pass
    except GruAudioError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def jobs_of(voice: Voice, corpus: Path) -> list[Job]:
    """What to convert of one speaker; a package's empty files are left out.

    Raises:
        DatasetError: the package is not installed.
    """
    sources = [
        path
        for path in sorted(voice.folder.rglob(f"*{voice.suffix}"))
        if path.stem not in NOT_SPEECH and path.parent.name != "silence" and path.stat().st_size
    ]
    if not sources:
        raise DatasetError(
            f"{voice.folder}: no {voice.suffix} files found; apt-get install {voice.package} brings them"
        )
    folder = corpus / voice.speaker
    return [Job(path, folder / path.relative_to(voice.folder).with_suffix(".flac")) for path in sources]


def convert(job: Job) -> None:
    """Decode one file, and store it without loss."""
    input_format = "g722" if job.source.suffix == ".g722" else None
    audio, sample_rate_hz = read_audio(job.source, input_format=input_format)
    write_audio(job.target, audio, sample_rate_hz)


if __name__ == "__main__":
    main()

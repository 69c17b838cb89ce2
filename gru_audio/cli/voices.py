"""`gru-audio voices`: the bundled voices."""

from gru_audio.cli.console import print_json, print_table
from gru_audio.cli.options import Json, Quiet
from gru_audio.voice.bundled import DEFAULT_VOICE


def voices(
    quiet: Quiet = False,  # every command has it; this one shows no progress and no notes
    json: Json = False,
) -> None:
    """List the bundled voices; `--voice` and `--init` take their names.

    **Examples**

        gru-audio voices

        gru-audio info debian-16k
    """
    from gru_audio.inspection.describe import describe
    from gru_audio.inspection.facts import VoiceFacts
    from gru_audio.voice.bundled import bundled_voices

    found = {name: describe(path) for name, path in bundled_voices().items()}
    voices = {name: facts for name, facts in found.items() if isinstance(facts, VoiceFacts)}
    if json:
        print_json(
            [
                {
                    "name": name,
                    "is_default": name == DEFAULT_VOICE,
                    "sample_rate_hz": facts.mel.settings["sample_rate_hz"],
                    "speakers": facts.speakers,
                    "file_bytes": facts.file_bytes,
                    "licence": facts.licence,
                }
                for name, facts in voices.items()
            ]
        )
        return
    rows = [
        [
            f"{name} (default)" if name == DEFAULT_VOICE else name,
            f"{facts.mel.settings['sample_rate_hz']} Hz",
            str(len(facts.speakers)),
            f"{facts.file_bytes / 1e6:.1f} MB",
            facts.licence.partition(", ")[0],
        ]
        for name, facts in voices.items()
    ]
    print_table(["voice", "sample rate", "speakers", "size", "licence"], rows)

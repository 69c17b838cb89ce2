"""The docs: their examples run, their links lead somewhere, and the settings are those of the code."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gru_audio.cli import app
from gru_audio.config import MEL_PRESETS, preset_names

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CLIP = "ru-nsh-0045.flac"


def blocks(page: Path, language: str) -> list[str]:
    """The page's fenced blocks of a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def commands(page: Path, *languages: str) -> list[list[str]]:
    """What a page has a reader type after gru-audio, and what torchrun starts."""
    lines = "\n".join(block for language in languages for block in blocks(page, language)).splitlines()
    starts = re.compile(r"(?:^|[|&] ?|-- )gru[-_]audio (?!.*%)(.+?)(?: \||&&|\\$|$)")
    return [shlex.split(found[1], comments=True) for line in lines if (found := starts.search(line))]


def test_the_settings_are_those_of_the_code() -> None:
    page = runpy.run_path(str(ROOT / "docs/settings.py"))["page"]()
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == page, "run python docs/settings.py"
    assert not re.findall(r"^\| `\w+` .*\|  \|$", page, re.MULTILINE), "a key without a meaning"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_every_preset_is_in_its_table() -> None:
    for page, names in (("docs/training.md", preset_names()), ("docs/mels.md", MEL_PRESETS)):
        rows = re.findall(r"^\| (`.+?) \|", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert not set(names) - set(re.findall(r"`([\w-]+)`", " ".join(rows))), page


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page: Path) -> None:
    group = typer.main.get_command(app)
    for name, *arguments in commands(page, "bash", "text"):
        command = group.get_command(typer.Context(group), name)  # type: ignore[attr-defined]
        assert command, name
        command.make_context(name, arguments)


def test_the_quick_start_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "samples").mkdir()
    shutil.copy(ROOT / "samples" / CLIP, tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    typed = commands(ROOT / "docs/quickstart.md", "bash")
    assert len(typed) == 5
    for arguments in typed:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, f"{arguments}: {done.output}"
    assert {path.name for path in tmp_path.rglob("*.wav")} == {
        "out.wav",
        "again.wav",
        CLIP.replace("flac", "wav"),
    }


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    examples = blocks(ROOT / page, "python")
    assert examples
    exec("\n".join(examples), {})


def test_the_reading_tour_is_as_long_as_told() -> None:
    """Each file's lines to a tenth, and all of them: a student has an afternoon."""
    page = (ROOT / "docs/design.md").read_text(encoding="utf-8").split("## 7. ")[1]
    files = re.findall(r"^\| \[.+?\]\(\.\./(.+?)\) \| (\d+) \| .+\. \|$", page, re.MULTILINE)
    told = re.search(r"These (\d+) files, some ([\d,]+) lines", page)
    assert told
    assert len(files) == int(told[1])
    lengths = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name, _ in files}
    for name, lines in files:
        assert abs(lengths[name] - int(lines)) <= lengths[name] // 10, f"{name} has {lengths[name]} lines"
    assert abs(sum(lengths.values()) - int(told[2].replace(",", ""))) <= 100
    assert sum(lengths.values()) <= 3_000

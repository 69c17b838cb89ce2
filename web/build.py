"""Puts the page that speaks in a browser together in web/dist, which any static server can show.

    python web/build.py [VOICE]
    python -m http.server -d web/dist

It compiles the core to WebAssembly twice, with the browsers' newest products of bytes and without, exports and packs
the voice, by default the bundled one, and joins the page's own files with those that it shares with the listening page.
"""

import gzip
import json
import shutil
import string
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from gru_audio.errors import GruAudioError  # noqa: E402
from gru_audio.synthesis.int8.voice_file import export_voice  # noqa: E402
from gru_audio.voice.bundled import DEFAULT_VOICE  # noqa: E402
from gru_audio.voice.voice import load_voice  # noqa: E402

try:
    import ziglang  # noqa: F401

    from hatch_build import FLAGS
except ModuleNotFoundError as missing:
    sys.exit(
        f"error: the page's core needs {missing.name}, which is not installed; pip install hatchling ziglang"
    )

WEB, DIST, SHARED = ROOT / "web", ROOT / "web" / "dist", ROOT / "gru_audio" / "evaluation" / "page"
MODULES = {
    "core.wasm": "generic+simd128+bulk_memory",
    "core-relaxed.wasm": "generic+simd128+bulk_memory+relaxed_simd",
}
EXPORTS = (
    *("voice_size", "open", "facts_of", "error_text", "stream_size", "start", "push", "finish"),
    *("mel_frames", "mel_size", "mel", "griffin_lim_size", "griffin_lim", "products_are_exact"),
)
SCRIPTS = (
    *(SHARED / f"{name}.js" for name in ("elements", "spectrogram", "player", "panel")),
    WEB / "page.js",
)

TEMPLATES = ((WEB, "page.html"), (SHARED, "panel.html"))


def compile_core(path: Path, processor: str) -> None:
    """Compile the core, which imports nothing.

    Raises:
        SystemExit: the compiler refused.
    """
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", f"-mcpu={processor}"]
    flags = [*(flag for flag in FLAGS if flag != "-fPIC"), "-Wno-shorten-64-to-32"]  # no array is that long
    exports = [f"-Wl,--export=gru_audio_{name}" for name in EXPORTS] + ["-Wl,--export=__heap_base"]
    with tempfile.TemporaryDirectory() as folder:
        core = f"{folder}/core.o"
        for step in (
            [*flags, "-c", str(WEB / "core.c"), "-o", core],
            ["-nostdlib", "-s", "-Wl,--no-entry", *exports, core, "-o", str(path)],
        ):
            done = subprocess.run([*compiler, *step], capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{path.name}: compiling failed:\n{done.stderr}")


def build(voice_name: str = DEFAULT_VOICE, *, folder: Path = DIST) -> None:
    """Make the page's folder anew, once all that can fail is done.

    Raises:
        GruAudioError: no such voice, or one that the C core cannot run.
    """
    voice = load_voice(voice_name)
    with tempfile.TemporaryDirectory() as made:
        export_voice(voice_name, Path(made) / "voice.gru")
        packed = gzip.compress((Path(made) / "voice.gru").read_bytes(), mtime=0)  # the same bytes each time
        for name, processor in MODULES.items():
            compile_core(Path(made) / name, processor)
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "samples").mkdir(parents=True)
        for name in MODULES:
            shutil.copy(Path(made) / name, folder)
    (folder / "voice.gru.gz").write_bytes(packed)
    for name in ("core.js", "worker.js"):
        shutil.copy(WEB / name, folder)
    shutil.copy(SHARED / "page.css", folder)
    samples = sorted((ROOT / "samples").glob("*.flac"))
    for path in samples:
        shutil.copy(path, folder / "samples")
    shutil.copy(ROOT / "samples" / "ATTRIBUTION.md", folder / "samples")
    script = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    (folder / "page.js").write_text(script, encoding="utf-8")
    data = {
        "sample_rate_hz": voice.config.mel.sample_rate_hz,
        "samples": [[path.name, path.stem] for path in samples],
        "facts": {
            "Voice": f"{Path(voice_name).stem}, {len(packed) / 1e6:.1f} MB",
            "Licence": str(voice.metadata.get("licence", "not stated")),
            "Core": ", ".join(f"{name} {(folder / name).stat().st_size / 1e3:.0f} kB" for name in MODULES),
        },
    }
    template, panel = (string.Template((at / name).read_text(encoding="utf-8")) for at, name in TEMPLATES)
    page = template.substitute(
        data=json.dumps(data).replace("<", r"\u003c"),
        panel=panel.substitute(level=3),  # of its heading
    )
    (folder / "index.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    try:
        build(*sys.argv[1:])
    except GruAudioError as error:
        sys.exit(f"error: {error}")

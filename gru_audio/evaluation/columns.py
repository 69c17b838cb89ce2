"""The measures as columns: what each is, and which package computes it."""

import importlib

from gru_audio.evaluation.results import Measure

MEASURES = (
    Measure("pesq", "PESQ", "", True, "wide-band PESQ, ITU-T P.862.2 (2007), package pesq"),
    Measure("stoi", "STOI", "", True, "Taal et al. (2011), package pystoi"),
    Measure("estoi", "ESTOI", "", True, "extended STOI, Jensen & Taal (2016), package pystoi"),
    Measure(
        "log_mel_db", "log-mel", "dB", False, "RMS difference over the voice's mel bands, mean over frames"
    ),
    Measure(
        "mr_stft", "MR-STFT", "", False, "multi-resolution STFT distance, Yamamoto et al. (2020), eqs. 3 to 6"
    ),
    Measure("mcd_db", "MCD", "dB", False, "Kubichek (1993), mel cepstra 1 to 13, frame by frame, no warping"),
    Measure("f0_cents", "F0", "cents", False, "median over frames voiced in both, librosa's pYIN"),
    Measure("voicing_error_percent", "voicing", "%", False, "frames voiced in one alone, librosa's pYIN"),
    Measure(
        "silence_db",
        "silence",
        "dB",
        False,
        "level less the reference's in its quietest tenth; hiss is above 0",
    ),
    Measure("dnsmos", "DNSMOS", "", True, "DNSMOS P.835 overall, Reddy et al. (2022), package speechmos"),
    Measure("distillmos", "DistillMOS", "", True, "DistillMOS, Stahl & Gamper (2025), package distillmos"),
    Measure("nll_bits", "NLL", "bits", False, "teacher-forced negative log-likelihood of a sample's code"),
    Measure("times_real_time", "speed", "x", True, "seconds of audio a second of synthesis, one stream"),
)
"""Every column, in the order of a table."""

WITHOUT_REFERENCE = frozenset({"dnsmos", "distillmos"})
"""Keys of the measures that rate a clip by itself."""

INSTALL_EVAL = "pip install 'gru-audio[eval]'"

_MODULES = {
    "pesq": "pesq",
    "stoi": "pystoi",
    "estoi": "pystoi",
    "dnsmos": "speechmos.dnsmos",
    "distillmos": "distillmos",
}


def missing_keys() -> list[str]:
    """Keys of the measures whose package cannot be imported."""
    return [key for key, module in _MODULES.items() if not _imports(module)]


def _imports(module: str) -> bool:
    try:
        importlib.import_module(module)
    except (ImportError, OSError):  # OSError: a torchaudio that was built for another torch
        return False
    return True

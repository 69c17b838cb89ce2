"""Compiles fuzz.c with clang's libFuzzer and sanitizers, and runs it.

    python tests/native/fuzz.py                        each input of the corpus once, as CI does
    python tests/native/fuzz.py --minutes 60           looks for new inputs, so long by CPU time; they go to --found
    python tests/native/fuzz.py FILE                   one input, such as one that was found to crash

It needs Debian's clang-19 and libclang-rt-19-dev.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from run import with_sanitizers  # noqa: E402
from support.c_interface import FIRST_PLACE  # noqa: E402

from gru_audio.config import Config, MelConfig, ModelConfig, SignalConfig, TrainConfig  # noqa: E402
from gru_audio.synthesis.int8.voice_file import pack_voice  # noqa: E402
from gru_audio.voice.voice import Voice  # noqa: E402

CORPUS = HERE / "corpus"
_GAP = bytes(128)


def voice(order: int, bits: int, stride: int, gru_size: int = 16, **mel: object) -> bytes:
    """A voice as small as they come, with gaps between its arrays."""
    import torch

    from gru_audio.network.model import Network

    sizes = {"gru_size": gru_size, "conditioning_size": 4, "readout_size": 8, "pitch_size": 4}
    contract = {"n_fft": 64, "window_samples": 64, "hop_samples": 16, "n_mels": 8, "f_max_hz": 4000.0, **mel}
    config = Config(
        mel=MelConfig.model_validate({"sample_rate_hz": 8000, **contract}),
        signal=SignalConfig(lpc_order=order, bits=bits),
        model=ModelConfig.model_validate({**sizes, "samples_per_step": stride}),
        train=TrainConfig(crop_samples=240),
    )
    torch.manual_seed(0)
    tensors = {name: tensor.numpy() for name, tensor in Network(config).state_dict().items()}
    return spread(pack_voice(Voice(config, tensors, {})))


def spread(packed: bytes) -> bytes:
    """A voice's file with bytes between its arrays that nothing may read. Its checksum is wrong then."""
    first = FIRST_PLACE
    n_arrays = (int(np.frombuffer(packed, "<u8", 1, first)[0]) - first) // 16
    places = np.frombuffer(packed, "<u8", 2 * n_arrays, first).reshape(-1, 2).copy()
    result = bytearray(packed[: first + 16 * n_arrays])
    for place in places:
        begin, n_bytes = map(int, place)
        result += _GAP + bytes(-len(result) % 64)
        place[0] = len(result)
        result += packed[begin : begin + n_bytes]
    result[first : first + 16 * n_arrays] = places.tobytes()
    return bytes(result)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="*", type=Path, help="inputs to run once; by default the corpus")
    parser.add_argument("--minutes", type=float, default=0.0, help="CPU time to look for new inputs")
    parser.add_argument("--processor", default="x86_64_v3", help="what it is compiled for")
    parser.add_argument("--found", type=Path, default=Path("found"), help="the folder for new inputs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program, paths = Path(folder) / "fuzz", []
        for name, packed in {
            "plain": voice(4, 6, 2),
            "alone": voice(0, 6, 1, n_fft=256, padding="center", spectrum="power", log="db"),
            "wide": voice(2, 6, 4, window_samples=40, hop_samples=24, preemphasis=0.9),
            "whole": voice(0, 6, 1, gru_size=70),  # of its readout no block is empty in the first 64 columns
        }.items():
            path = Path(folder) / f"{name}.gru"
            path.write_bytes(packed)
            paths.append(str(path))
        compiler = [*with_sanitizers(options.processor), "-fsanitize=fuzzer", str(HERE / "fuzz.c")]
        compiler.append("-DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION")  # no checksums
        subprocess.run([*compiler, "-o", str(program)], check=True)
        inputs = options.inputs or sorted(CORPUS.glob("*"))
        arguments = [str(path) for path in inputs]
        if options.minutes:
            options.found.mkdir(parents=True, exist_ok=True)
            arguments = [str(options.found), str(CORPUS), "-handle_usr1=1"]
            arguments += ["-max_len=600", "-timeout=60", "-print_final_stats=1"]
            arguments += [f"-artifact_prefix={options.found}/crash-"]
        environment = {
            **os.environ,
            "GRU_FUZZ_VOICES": ":".join(paths),
            "GRU_FUZZ_CPU_SECONDS": str(round(60 * options.minutes)),
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        }
        sys.exit(subprocess.run([str(program), *arguments], env=environment, check=False).returncode)


if __name__ == "__main__":
    main()

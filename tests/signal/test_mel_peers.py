"""Each contract against the mel that its owner's own code made of the clip `speech`, run once and written down here.

The code ran as it stands in the commits named, on the clip as our resampler brings it to the rate; where it is older
than librosa 0.10 or torch 1.8, with the arguments and defaults of those put right (librosa.stft mirrored at the ends
then). None of it is in this repository.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from gru_audio.config import MEL_PRESETS
from gru_audio.signal.audio import resample
from gru_audio.signal.mel import from_linear, log_mel, log_unit, to_linear


@dataclass(frozen=True)
class Peer:
    """What a peer's code gave.

    Attributes:
        preset: the contract.
        source: the repository, the commit and the file.
        n_frames: how many frames.
        mean: of all values.
        deviation: of all values.
        apart: |ours - theirs| as measured: the largest, the mean, and the largest above 1e-3 (60 dB under a magnitude
            of 1), in the contract's own unit. Under that the two round otherwise, most in bands where a clip of 16 kHz
            has nothing; HiFi-GAN adds 1e-9 under a root.
        values: in frames 20, 60, 100 and 200, bands 5, 30 and the tenth from the top.
    """

    preset: str
    source: str
    n_frames: int
    mean: float
    deviation: float
    apart: tuple[float, float, float]
    values: tuple[float, ...]


PEERS = (
    Peer(
        "hifigan-22k", "jik876/hifi-gan 4769534 meldataset.py", 395, -4.42948, 2.11399, (1.4e-2, 2.2e-5, 1.8e-4),
        (-1.5933, -3.0656, -5.0724, -1.562, -3.285, -5.4433, -1.2035, -5.0303, -6.0345, -2.4333, -4.7907, -6.3352),
    ),
    Peer(
        "tacotron2-22k", "NVIDIA/tacotron2 185cd24 layers.py", 396, -4.44004, 2.12228, (1.1e-4, 7.6e-7, 3.8e-5),
        (-1.9351, -3.7634, -5.6724, -1.5295, -3.7405, -5.6364, -1.3477, -4.8582, -5.6227, -2.4621, -5.3485, -7.1604),
    ),
    Peer(
        "vocos-24k", "gemelo-ai/vocos c859e3b feature_extractors.py", 431, -1.77207, 4.40742, (6.4e-1, 1.2e-2, 1.2e-3),
        (-0.6356, -3.2348, -13.836, 2.2354, 1.5526, -11.5903, -0.7218, -2.523, -11.4385, 1.3266, -5.2623, -14.8092),
    ),
    Peer(
        "f5-tts-24k", "SWivid/F5-TTS 2ae2c9b model/modules.py", 431, -1.64908, 4.09261, (4.9e-1, 7.4e-4, 1.2e-3),
        (-0.6356, -3.2348, -11.5129, 2.2354, 1.5526, -11.5129, -0.7218, -2.523, -11.4385, 1.3266, -5.2623, -11.5129),
    ),
    Peer(
        "espnet-24k", "kan-bayashi/ParallelWaveGAN 8674037 bin/preprocess.py, egs/libritts's settings",
        368, -1.58747, 0.91116, (3.2e-5, 2.1e-7, 7.9e-6),
        (-0.3939, -0.9265, -1.9476, 0.195, -0.9252, -1.4601, -0.0318, -1.0526, -2.6244, -0.1301, -1.0751, -2.346),
    ),
    Peer(  # which cuts each bin at 1e-5 instead of each band at 1e-10: digital silence alone differs
        "espnet-24k", "espnet/espnet: stft.py (003c17c), log_mel.py (10c9121), log_mel_fbank.py (0bc48ac) of espnet2",
        368, -1.58747, 0.91116, (4.8e-5, 2.5e-7, 1.6e-5),
        (-0.3939, -0.9265, -1.9476, 0.195, -0.9252, -1.4601, -0.0318, -1.0526, -2.6244, -0.1301, -1.0751, -2.346),
    ),
    Peer(  # with librosa from 0.10 on it pads with zeros: the first and last four frames are others
        "wavernn-22k", "fatchord/WaveRNN 83c08fd utils/dsp.py", 369, 0.61564, 0.25935, (1.0e-5, 5.7e-8, 1.3e-6),
        (0.9325, 0.7532, 0.62, 1.0, 0.8209, 0.5764, 0.9396, 0.7266, 0.5085, 1.0, 0.7086, 0.6194),
    ),
    Peer(
        "coqui-22k", "coqui-ai/TTS dbf1a08 utils/audio/processor.py", 396, -0.98531, 1.70001, (4.4e-5, 5.3e-7, 8.3e-6),
        (0.6148, -0.6392, -1.7543, 0.8286, -0.1959, -1.6952, 1.913, -0.5264, -1.1479, 0.1445, -0.9116, -2.0799),
    ),
    Peer(
        "speechbrain-16k", "speechbrain/speechbrain 9c826ef lobes/models/HifiGAN.py, LibriTTS's settings",
        288, -4.14949, 2.01118, (8.5e-5, 1.3e-6, 2.7e-5),
        (-1.306, -1.0909, -6.0988, -2.0056, -2.8584, -5.3149, 0.5428, -3.6208, -4.0608, 0.0051, -1.8317, -5.1546),
    ),
    Peer(
        "whisper-16k", "openai/whisper c0d2f62 whisper/audio.py", 459, 0.18196, 0.46318, (2.2e-5, 1.8e-7, 2.2e-5),
        (0.7827, -0.1542, -0.617, 0.8833, 0.3854, -0.4294, 0.4835, -0.2617, 0.5405, 0.9282, 0.1613, 0.0646),
    ),
    Peer(
        "univoc-16k", "bshall/UniversalVocoding 86e13fb (v0.1) utils.py",
        368, 0.63258, 0.15801, (2.5e-6, 3.9e-8, 9.9e-7),
        (0.7571, 0.7486, 0.6745, 0.7751, 0.7484, 0.6881, 0.7308, 0.7249, 0.4982, 0.8881, 0.717, 0.5753),
    ),
)  # fmt: skip
LOUD = 1e-3
"""A band's magnitude from which on two ways to compute it have to agree."""


def test_every_preset_of_a_peer_was_compared() -> None:
    assert {peer.preset for peer in PEERS} == MEL_PRESETS.keys() - {"speech-16k"}


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.source.split()[0].split("/")[-1])
def test_a_contract_is_its_owners_own(peer: Peer, speech: NDArray[np.float32]) -> None:
    config = MEL_PRESETS[peer.preset]
    mel = log_mel(resample(speech, 16_000, config.sample_rate_hz), config)
    cut_above = {"wavernn-22k": 1.0, "univoc-16k": 1.0, "coqui-22k": 4.0}.get(peer.preset)
    mel = mel if cut_above is None else np.minimum(mel, cut_above)
    if (
        peer.preset == "whisper-16k"
    ):  # lifts what is far below the loudest value, and leaves out the last frame
        mel = np.maximum(mel[:-1], mel[:-1].max() - 2.0)
    assert mel.shape == (peer.n_frames, config.n_mels)

    found = np.array(
        [mel[frame, band] for frame in (20, 60, 100, 200) for band in (5, 30, config.n_mels - 10)]
    )
    theirs, rounded = np.array(peer.values, np.float32), 5e-5
    least = LOUD if config.spectrum == "magnitude" else LOUD**2
    is_loud = to_linear(theirs, config) > least
    assert is_loud.sum() >= 6
    np.testing.assert_allclose(found[is_loud], theirs[is_loud], rtol=0, atol=peer.apart[2] + rounded)
    assert np.abs(found - theirs).max() <= peer.apart[0] + rounded
    assert abs(float(mel.mean()) - peer.mean) <= peer.apart[1] + rounded
    assert abs(float(mel.std()) - peer.deviation) <= peer.apart[1] + rounded
    assert peer.apart[2] / config.scale * log_unit(config) <= 2e-3, "0.02 dB where there is something to hear"
    assert float(mel.min()) >= from_linear(np.float32(config.floor), config).item() - rounded

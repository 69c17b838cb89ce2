"""librosa's loops are compiled by one process at a time."""

import fcntl
from pathlib import Path
from threading import Thread

from support.loops import librosa

from gru_audio.quality.compiled_librosa import compiled_librosa


def test_waits_while_another_process_compiles() -> None:
    compiled_librosa.cache_clear()
    waiting = Thread(target=compiled_librosa)
    with Path(librosa.__file__).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting.start()
        waiting.join(1.5)
        assert waiting.is_alive()
        fcntl.flock(file, fcntl.LOCK_UN)
    waiting.join()
    assert compiled_librosa() is librosa
    assert compiled_librosa.cache_info().misses == 1

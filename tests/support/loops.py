"""librosa for tests: its loops are compiled by one worker at a time."""

from gru_audio.quality.compiled_librosa import compiled_librosa

librosa = compiled_librosa()

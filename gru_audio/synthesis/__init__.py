"""From a voice and a mel to audio. Nothing here imports torch but reference.py, the torch engine."""

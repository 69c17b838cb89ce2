"""From a voice and a mel to audio.

Nothing here imports torch but reference, sample_loop and graph, the torch engine.
"""

"""`python -m gru_audio` is the command `gru-audio`."""

from gru_audio.cli import main

main()

"""How fast this machine synthesises and trains, beside how fast it could: what `gru-audio bench` shows."""

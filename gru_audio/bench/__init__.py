"""How fast this machine synthesizes and trains, beside how fast it could: what `gru-audio bench` shows."""

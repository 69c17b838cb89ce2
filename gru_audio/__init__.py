"""gru-audio."""

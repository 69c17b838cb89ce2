"""Where people look at a run's figures, beside its metrics.jsonl."""

"""Training: a dataset and a config in, a run's folder with checkpoints and a voice out; `run.train` begins."""

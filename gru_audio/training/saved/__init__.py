"""What a run writes: checkpoints and figures."""

"""Which voice of a run is its best, by teacher forcing and free running."""

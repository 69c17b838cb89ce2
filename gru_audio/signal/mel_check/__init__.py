"""Whether a given mel is what a voice wants: judge looks at what tally has counted, and names one of the storages."""

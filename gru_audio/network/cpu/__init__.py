"""Training on a CPU: the GRU over time and the readout, by the C core."""

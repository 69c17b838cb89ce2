"""Training on a GPU: the GRU over time in one kernel."""

"""The network: its model, the tree over its codes, and which weights are kept."""

"""Kernels in Triton; importing one needs it."""

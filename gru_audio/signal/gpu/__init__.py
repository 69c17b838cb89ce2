"""The signal's way to codes on a GPU, many crops at once: what the C core computes, bit for bit.

Torch's element by element operations round as C's do, and nothing is fused between two of them. Two rules keep it so:

- a sum is taken in C's order, never by `sum` or a matrix product;
- a divisor is a tensor, since torch's CUDA kernels multiply by the reciprocal of a Python number.
"""

"""The gradient of tables whose rows were added up: a product with one-hot codes, which are never written.

    grad of table i (Q, C)  =  [code of row n is q] (Q, N)  x  grad of the sums (N, C)

    rows n    | 0 .. of part 0 | .. of part 1 | ..      a program sums one part for CLASSES x COLUMNS of one table

The parts are added up afterwards, always in the same order.
"""

import triton
import triton.language as tl


@triton.jit
def table_gradient(
    grad, codes, parts, n_rows, rows_per_part, n_tables, n_classes, size,
    CLASSES: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Of grad (N, C) and codes (N, n): parts (parts, n, Q, C) float32; multiplied in KIND."""
    part, table = tl.program_id(0), tl.program_id(1)
    n_column_blocks = tl.cdiv(size, COLUMNS)
    q = (tl.program_id(2) // n_column_blocks) * CLASSES + tl.arange(0, CLASSES)
    c = (tl.program_id(2) % n_column_blocks) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([CLASSES, COLUMNS], tl.float32)
    last = tl.minimum((part + 1) * rows_per_part, n_rows)
    for first in range(0, rows_per_part, ROWS):
        n = part * rows_per_part + first + tl.arange(0, ROWS)
        code = tl.load(codes + n * n_tables + table, mask=n < last, other=-1)
        place = grad + n[:, None].to(tl.int64) * size + c[None, :]
        of_sums = tl.load(place, mask=(n < last)[:, None] & (c < size)[None, :], other=0.0)
        one_hot = (q[:, None] == code[None, :]).to(KIND)
        total = tl.dot(one_hot, of_sums.to(KIND), total, input_precision="ieee")
    place = parts + ((part * n_tables + table) * n_classes + q[:, None]) * size + c[None, :]
    tl.store(place, total, mask=(q < n_classes)[:, None] & (c < size)[None, :])

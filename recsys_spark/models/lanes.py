"""Sixteen small systems at a time, in LLVM's own language: each number of theirs is a vector of LANES, one place for each system.

A loop over one small system spends its time waiting for its own last result; here no instruction has less than a vector to do, however small the
systems are. A place's numbers come from that place alone, in an order that does not depend on the others.

numba's cache looks at a function's own file only: see llvm.py.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from recsys_spark.models.llvm import I64, LANES, VECTOR, Emit, emitted

BLOCK = 4
"""Rows and columns of a tile of `lane_products`."""


def _dot(
    e: Emit,
    sign: Any,
    a: Any,
    a_at: Any,
    a_step: Any,
    b: Any,
    b_at: Any,
    b_step: Any,
    depth: Any,
    c: Any,
    c_at: Any,
) -> None:
    a, b, c = e.start(1, a, a_at), e.start(4, b, b_at), e.start(8, c, c_at)
    mul = e.builder.mul
    (total,) = e.sums(depth, 1, lambda k: [(e.load(a, mul(k, a_step)), e.load(b, mul(k, b_step)))])
    e.store(e.fused(e.splat(sign), total, e.load(c, I64(0))), c, I64(0))


def _products(e: Emit, a: Any, i_at: Any, j_at: Any, row: Any, depth: Any, c: Any, c_at: Any, c_row: Any) -> None:
    left, right, c = e.start(0, a, i_at), e.start(0, a, j_at), e.start(5, c, c_at)
    builder = e.builder
    shifts = [builder.mul(row, I64(r)) for r in range(BLOCK)]

    def terms(k: Any) -> list[tuple[Any, Any]]:
        step = builder.mul(k, I64(LANES))
        x, y = ([e.load(side, builder.add(shift, step)) for shift in shifts] for side in (left, right))
        return [(one, other) for one in x for other in y]

    for at, total in enumerate(e.sums(depth, BLOCK * BLOCK, terms)):
        place = builder.add(builder.mul(c_row, I64(at // BLOCK)), I64(at % BLOCK * LANES))
        e.store(builder.fadd(total, e.load(c, place)), c, place)


def _scale(e: Emit, c: Any, c_at: Any, d: Any, d_at: Any) -> None:
    c, d = e.start(0, c, c_at), e.start(2, d, d_at)
    e.store(e.builder.fmul(e.load(c, I64(0)), e.load(d, I64(0))), c, I64(0))


def _inverse_root(e: Emit, c: Any, c_at: Any) -> None:
    c = e.start(0, c, c_at)
    name = f"llvm.sqrt.v{LANES}f32"
    module = e.builder.module
    root = module.globals.get(name) or ir.Function(module, ir.FunctionType(VECTOR, [VECTOR]), name)
    one = ir.Constant(VECTOR, [1.0] * LANES)
    e.store(e.builder.fdiv(one, e.builder.call(root, [e.load(c, I64(0))])), c, I64(0))


def _gather(e: Emit, source: Any, offsets: Any, offsets_at: Any, at: Any, c: Any, c_at: Any) -> None:
    builder = e.builder
    lines, source, c = e.start(1, offsets, offsets_at), e.start(0, source, at), e.start(4, c, c_at)
    rows = [e.load(source, builder.load(builder.gep(lines, [I64(r)]))) for r in range(LANES)]
    for number, vector in enumerate(_transposed(e, rows)):
        e.store(vector, c, I64(number * LANES))


def _turn(e: Emit, a: Any, a_at: Any, c: Any, c_at: Any, c_row: Any) -> None:
    a, c = e.start(0, a, a_at), e.start(2, c, c_at)
    for number, vector in enumerate(_transposed(e, [e.load(a, I64(r * LANES)) for r in range(LANES)])):
        e.store(vector, c, e.builder.mul(c_row, I64(number)))


def _transposed(e: Emit, rows: list[Any]) -> list[Any]:
    """LANES vectors, turned round as a matrix (Eklundh's blocks of 8, 4, 2 and 1)."""
    rows, distance = list(rows), LANES // 2
    while distance:
        for i in range(LANES):
            if not i & distance:
                a, b = rows[i], rows[i + distance]
                low = [c if not c & distance else LANES + c - distance for c in range(LANES)]
                high = [c + distance if not c & distance else LANES + c for c in range(LANES)]
                rows[i], rows[i + distance] = (
                    e.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), mask))
                    for mask in (low, high)
                )
        distance //= 2
    return rows


# All arrays are flat; they are float32 but for offsets int64. v[at] is a vector, LANES numbers from `at` on.
lane_dot: Any = emitted("faiiaiiiai", _dot)
"""lane_dot(sign, a, a_at, a_step, b, b_at, b_step, depth, c, c_at): c[c_at] += sign * sum over k < depth of a[a_at + a_step k] * b[b_at + b_step k]."""
lane_products: Any = emitted("aiiiiaii", _products)
"""lane_products(a, i_at, j_at, row, depth, c, c_at, c_row): for i, j < BLOCK
c[c_at + c_row i + LANES j] += sum over k < depth of a[i_at + row i + LANES k] * a[j_at + row j + LANES k]."""
lane_scale: Any = emitted("aiai", _scale)
"""lane_scale(c, c_at, d, d_at): c[c_at] *= d[d_at]."""
lane_inverse_root: Any = emitted("ai", _inverse_root)
"""lane_inverse_root(c, c_at): c[c_at] = 1 / sqrt(c[c_at])."""
lane_gather: Any = emitted("aaiiai", _gather)
"""lane_gather(source, offsets, offsets_at, at, c, c_at): place l of the vector c[c_at + LANES n] is source[offsets[offsets_at + l] + at + n], n < LANES."""
lane_turn: Any = emitted("aiaii", _turn)
"""lane_turn(a, a_at, c, c_at, c_row): c[c_at + c_row l + n] is place l of the vector a[a_at + LANES n]."""

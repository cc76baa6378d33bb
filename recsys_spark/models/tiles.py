"""Small matrix products for compiled loops to stand on: the loop vectoriser does not keep a tile of sums in registers.

numba's cache looks at a function's own file only: see llvm.py.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

from llvmlite import ir
from numba import types

from recsys_spark.jit import compiled, processor_has
from recsys_spark.models.lanes import lane_gather
from recsys_spark.models.llvm import I64, LANES, Emit, emitted

ROWS, WIDE = (8, 2) if processor_has("avx512f") else (4, 1)
"""Rows of a tile, and vectors beside each other in a wide one: as many sums as there are registers for. ROWS divides LANES."""
PANEL = WIDE * LANES
"""Items whose vectors lie packed for `score_tile`."""


def _sums(e: Emit, a: Any, a_row: Any, a_step: Any, lines: list[Any], b_step: Any, depth: Any) -> list[list[Any]]:
    """Of ROWS, a vector for each of `lines`: the sums over k < depth of a[a_row r + a_step k] line[b_step k + l]."""
    builder = e.builder
    rows = [builder.gep(a, [builder.mul(a_row, I64(r))]) for r in range(ROWS)]

    def terms(k: Any) -> list[tuple[Any, Any]]:
        a_at, b_at = builder.mul(k, a_step), builder.mul(k, b_step)
        vectors = [e.load(line, b_at) for line in lines]
        numbers = [e.splat(builder.load(builder.gep(row, [a_at]))) for row in rows]
        return [(number, vector) for number in numbers for vector in vectors]

    totals = e.sums(depth, ROWS * len(lines), terms)
    return [totals[at : at + len(lines)] for at in range(0, len(totals), len(lines))]


def _add(
    wide: int,
    e: Emit,
    sign: Any,
    a: Any,
    a_at: Any,
    a_row: Any,
    a_step: Any,
    b: Any,
    b_at: Any,
    b_step: Any,
    depth: Any,
    c: Any,
    c_at: Any,
    c_row: Any,
) -> None:
    a, b, c = e.start(1, a, a_at), e.start(5, b, b_at), e.start(9, c, c_at)
    lines, factor = [e.builder.gep(b, [I64(v * LANES)]) for v in range(wide)], e.splat(sign)
    for r, vectors in enumerate(_sums(e, a, a_row, a_step, lines, b_step, depth)):
        row = e.builder.gep(c, [e.builder.mul(c_row, I64(r))])
        for v, total in enumerate(vectors):
            e.store(e.fused(factor, total, e.load(row, I64(v * LANES))), row, I64(v * LANES))


def _score(e: Emit, a: Any, a_at: Any, b: Any, depth: Any, floors: Any, at: Any, c: Any, above: Any) -> Any:
    nought, builder = I64(0), e.builder
    a, b, floors = e.start(0, a, a_at), e.start(2, b, nought), e.start(4, floors, at)
    c, above = e.start(6, c, nought), e.start(7, above, nought)
    lines, found = [builder.gep(b, [builder.mul(depth, I64(v * LANES))]) for v in range(WIDE)], []
    for r, vectors in enumerate(_sums(e, a, depth, I64(1), lines, I64(LANES), depth)):
        floor, bits = e.splat(builder.load(builder.gep(floors, [I64(r)]))), []
        for v, total in enumerate(vectors):
            e.store(total, c, I64((r * WIDE + v) * LANES))
            mask = builder.bitcast(builder.fcmp_unordered(">", total, floor), ir.IntType(LANES))
            bits.append(builder.shl(builder.zext(mask, I64), I64(v * LANES)))
        marks = reduce(builder.or_, bits)
        builder.store(marks, builder.gep(above, [I64(r)]))
        marked = builder.zext(builder.icmp_unsigned("!=", marks, nought), I64)
        found.append(builder.shl(marked, I64(r)))
    return reduce(builder.or_, found)


def _lowest(e: Emit, bits: Any) -> Any:
    return e.builder.cttz(bits, ir.Constant(ir.IntType(1), 1))


# All arrays are flat; they are float32 but for above int64.
add_tile: Any = emitted("faiiiaiiiaii", partial(_add, 1))
"""add_tile(sign, a, a_at, a_row, a_step, b, b_at, b_step, depth, c, c_at, c_row):
c[c_at + c_row r + l] += sign * sum over k < depth of a[a_at + a_row r + a_step k] b[b_at + b_step k + l], r < ROWS, l < LANES.

a and b may be parts of c that the tile does not touch."""
add_wide_tile: Any = emitted("faiiiaiiiaii", partial(_add, WIDE))
"""The same with l < WIDE * LANES."""
score_tile: Any = emitted("aiaiaiaa", _score, types.int64)
"""score_tile(a, a_at, b, depth, floors, at, c, above): c[PANEL r + i] = sum over k < depth of a[a_at + depth r + k] v_i[k], r < ROWS, i < PANEL, the vector
v_i packed as `pack` does. Bit i of above[r] tells whether that sum is above floors[at + r], or no number, and bit r of the result whether one of above[r] does."""
lowest_bit: Any = emitted("i", _lowest, types.int64)
"""lowest_bit(bits): the place of the lowest bit that is set, of one at least."""


@compiled
def pack(vectors, items, offsets, panel):  # type: ignore[no-untyped-def]
    """v_i = vectors[items[i]], float32 [., F], into `panel`: v_i[k] is its [i // LANES * F + k, i % LANES]. Of fewer than PANEL items the last stands for those
    that lack. `offsets` int64 [PANEL] is overwritten."""
    depth = vectors.shape[1]
    flat, whole = vectors.reshape(vectors.size), depth - depth % LANES
    for i in range(PANEL):
        offsets[i] = items[min(i, len(items) - 1)] * depth
    for first in range(0, PANEL, LANES):
        for k in range(0, whole, LANES):
            lane_gather(flat, offsets, first, k, panel, first * depth + k * LANES)
        for i in range(first, first + LANES):
            for k in range(whole, depth):
                panel[first * depth + k * LANES + i - first] = flat[offsets[i] + k]

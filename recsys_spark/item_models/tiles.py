"""Small matrix products in LLVM's own language, for compiled loops to stand on: the loop vectoriser does not keep a tile of sums in registers.

numba's cache looks at a function's own file only: after a change here, touch the files whose compiled functions call it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
ROWS = 8


def _product(wide: int, adds: bool) -> Any:
    """A product whose tile is ROWS x (wide LANES). `adds`: to what stands in c; else c is overwritten, and `sign` means nothing."""

    def tile(
        _typing: Any,
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
    ) -> Any:
        i64 = types.int64
        signature = types.void(types.float32, a, i64, i64, i64, b, i64, i64, i64, c, i64, i64)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            _generate(context, builder, signature, arguments, wide, adds)
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(tile)


def _generate(
    context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any, wide: int, adds: bool
) -> None:
    sign, a, a_at, a_row, a_step, b, b_at, b_step, depth, c, c_at, c_row = arguments
    integer, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)
    undefined, zero = ir.Constant(vector, ir.Undefined), ir.Constant(vector, [0.0] * LANES)
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

    def start(argument: int, array: Any, at: Any) -> Any:
        return builder.gep(context.make_array(signature.args[argument])(context, builder, array).data, [at])

    def splat(number: Any) -> Any:
        one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(one, undefined, everywhere)

    def vector_at(pointer: Any, v: int) -> Any:
        return builder.bitcast(builder.gep(pointer, [integer(v * LANES)]), vector.as_pointer())

    def load(pointer: Any, v: int) -> Any:
        return builder.load(vector_at(pointer, v), align=4)

    def fused(x: Any, y: Any, z: Any) -> Any:
        return builder.fadd(builder.fmul(x, y, flags=("contract",)), z, flags=("contract",))

    a, b, c = start(1, a, a_at), start(5, b, b_at), start(9, c, c_at)
    rows = [builder.gep(a, [builder.mul(a_row, integer(r))]) for r in range(ROWS)]
    before = builder.block
    loop, after = builder.append_basic_block("depth"), builder.append_basic_block("after")
    builder.cbranch(builder.icmp_signed(">", depth, integer(0)), loop, after)

    builder.position_at_end(loop)
    k, sums = builder.phi(integer), [builder.phi(vector) for _ in range(ROWS * wide)]
    line = builder.gep(b, [builder.mul(k, b_step)])
    values = [load(line, v) for v in range(wide)]
    step = builder.mul(k, a_step)
    numbers = [splat(builder.load(builder.gep(row, [step]))) for row in rows]
    added = [fused(numbers[at // wide], values[at % wide], total) for at, total in enumerate(sums)]
    following = builder.add(k, integer(1))
    for phi, first, then in zip([k, *sums], [integer(0), *[zero] * len(sums)], [following, *added]):
        phi.add_incoming(first, before)
        phi.add_incoming(then, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

    builder.position_at_end(after)
    totals = [builder.phi(vector) for _ in sums]
    for phi, then in zip(totals, added):
        phi.add_incoming(zero, before)
        phi.add_incoming(then, loop)
    factor = splat(sign)
    for at, total in enumerate(totals):
        target = builder.gep(c, [builder.mul(c_row, integer(at // wide))])
        found = fused(factor, total, load(target, at % wide)) if adds else total
        builder.store(found, vector_at(target, at % wide), align=4)


add_tile: Any = _product(1, True)
"""add_tile(sign, a, a_at, a_row, a_step, b, b_at, b_step, depth, c, c_at, c_row):
c[c_at + c_row r + l] += sign * sum over k < depth of a[a_at + a_row r + a_step k] b[b_at + b_step k + l], r < ROWS, l < LANES.

a, b, c flat float32; a and b may be parts of c that the tile does not touch."""
WIDE = 2
set_wide_tile: Any = _product(WIDE, False)
"""The same with l < WIDE * LANES, c overwritten and `sign` unused: fewer numbers are fetched for each addition."""

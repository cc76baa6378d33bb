"""One small matrix product in LLVM's own language, for compiled loops to stand on: the loop vectoriser does not keep a tile of sums in registers.

numba's cache looks at a function's own file only: after a change here, touch the files whose compiled functions call it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
ROWS = 8


def _tile(
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
    """c[c_at + c_row r + l] += sign * sum over k < depth of a[a_at + a_row r + a_step k] b[b_at + b_step k + l], r < ROWS, l < LANES.

    a, b, c flat float32; a and b may be parts of c that the tile does not touch.
    """
    i64 = types.int64
    signature = types.void(types.float32, a, i64, i64, i64, b, i64, i64, i64, c, i64, i64)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        sign, a, a_at, a_row, a_step, b, b_at, b_step, depth, c, c_at, c_row = arguments
        integer, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)
        undefined, zero = ir.Constant(vector, ir.Undefined), ir.Constant(vector, [0.0] * LANES)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

        def start(argument: int, array: Any, at: Any) -> Any:
            return builder.gep(
                context.make_array(signature.args[argument])(context, builder, array).data, [at]
            )

        def splat(number: Any) -> Any:
            one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(one, undefined, everywhere)

        def vector_at(pointer: Any) -> Any:
            return builder.bitcast(pointer, vector.as_pointer())

        def load(pointer: Any) -> Any:
            return builder.load(vector_at(pointer), align=4)

        def fused(x: Any, y: Any, z: Any) -> Any:
            return builder.fadd(builder.fmul(x, y, flags=("contract",)), z, flags=("contract",))

        a, b, c = start(1, a, a_at), start(5, b, b_at), start(9, c, c_at)
        rows = [builder.gep(a, [builder.mul(a_row, integer(r))]) for r in range(ROWS)]
        before = builder.block
        loop, after = builder.append_basic_block("depth"), builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed(">", depth, integer(0)), loop, after)

        builder.position_at_end(loop)
        k, sums = builder.phi(integer), [builder.phi(vector) for _ in rows]
        values = load(builder.gep(b, [builder.mul(k, b_step)]))
        step = builder.mul(k, a_step)
        added = [
            fused(splat(builder.load(builder.gep(r, [step]))), values, total) for r, total in zip(rows, sums)
        ]
        following = builder.add(k, integer(1))
        for phi, first, then in zip([k, *sums], [integer(0), *[zero] * ROWS], [following, *added]):
            phi.add_incoming(first, before)
            phi.add_incoming(then, loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

        builder.position_at_end(after)
        totals = [builder.phi(vector) for _ in rows]
        for phi, then in zip(totals, added):
            phi.add_incoming(zero, before)
            phi.add_incoming(then, loop)
        factor = splat(sign)
        for r, total in enumerate(totals):
            target = builder.gep(c, [builder.mul(c_row, integer(r))])
            builder.store(fused(factor, total, load(target)), vector_at(target), align=4)
        return context.get_dummy_value()

    return signature, generate


add_tile: Any = intrinsic(_tile)

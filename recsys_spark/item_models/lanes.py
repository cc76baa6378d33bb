"""Sixteen small systems at a time, in LLVM's own language: each number of theirs is a vector of LANES, one place for each system.

A loop over one small system spends its time waiting for its own last result; here no instruction has less than a vector to do, however small the
systems are. A place's numbers come from that place alone, in an order that does not depend on the others.

numba's cache looks at a function's own file only: after a change here, touch the files whose compiled functions call it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from recsys_spark.item_models.tiles import LANES

BLOCK = 4
"""Rows and columns of a tile of `lane_products`."""

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_I64 = ir.IntType(64)


class _Emit:
    """Vectors in and out of flat arrays; `at` counts numbers."""

    def __init__(self, context: Any, builder: ir.IRBuilder, signature: Any):
        self.context, self.builder, self.types = context, builder, signature.args

    def start(self, argument: int, array: Any, at: Any) -> Any:
        data = self.context.make_array(self.types[argument])(self.context, self.builder, array).data
        return self.builder.gep(data, [at])

    def pointer(self, start: Any, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(start, [at]), _VECTOR.as_pointer())

    def load(self, start: Any, at: Any) -> Any:
        return self.builder.load(self.pointer(start, at), align=4)

    def store(self, vector: Any, start: Any, at: Any) -> None:
        self.builder.store(vector, self.pointer(start, at), align=4)

    def fused(self, x: Any, y: Any, z: Any) -> Any:
        return self.builder.fadd(self.builder.fmul(x, y, flags=("contract",)), z, flags=("contract",))

    def splat(self, number: Any) -> Any:
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        one = self.builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(one, undefined, everywhere)

    def sums(self, depth: Any, n: int, terms: Callable[[Any], list[tuple[Any, Any]]]) -> list[Any]:
        """n vectors: the sums over k < depth of the products of `terms(k)`."""
        builder, zero = self.builder, ir.Constant(_VECTOR, [0.0] * LANES)
        before = builder.block
        loop, after = builder.append_basic_block("depth"), builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed(">", depth, _I64(0)), loop, after)
        builder.position_at_end(loop)
        k, totals = builder.phi(_I64), [builder.phi(_VECTOR) for _ in range(n)]
        added = [self.fused(x, y, total) for (x, y), total in zip(terms(k), totals, strict=True)]
        following = builder.add(k, _I64(1))
        for phi, first, then in zip([k, *totals], [_I64(0), *[zero] * n], [following, *added]):
            phi.add_incoming(first, before)
            phi.add_incoming(then, loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
        builder.position_at_end(after)
        found = [builder.phi(_VECTOR) for _ in range(n)]
        for phi, then in zip(found, added):
            phi.add_incoming(zero, before)
            phi.add_incoming(then, loop)
        return found

    def transposed(self, rows: list[Any]) -> list[Any]:
        """LANES vectors, turned round as a matrix (Eklundh's blocks of 8, 4, 2 and 1)."""
        rows, distance = list(rows), LANES // 2
        while distance:
            for i in range(LANES):
                if not i & distance:
                    a, b = rows[i], rows[i + distance]
                    low = [c if not c & distance else LANES + c - distance for c in range(LANES)]
                    high = [c + distance if not c & distance else LANES + c for c in range(LANES)]
                    rows[i], rows[i + distance] = (
                        self.builder.shuffle_vector(
                            a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), mask)
                        )
                        for mask in (low, high)
                    )
            distance //= 2
        return rows


def _emitted(kinds: str, emit: Callable[..., None]) -> Any:
    """The intrinsic of `emit(e, *arguments)`; `kinds` of the arguments: a array, i integer, f float32."""

    def typed(*given: Any) -> Any:
        plain = {"i": types.int64, "f": types.float32}
        signature = types.void(*(plain.get(kind, own) for kind, own in zip(kinds, given, strict=True)))

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            emit(_Emit(context, builder, signature), *arguments)
            return context.get_dummy_value()

        return signature, generate

    # numba counts the arguments of what it is given
    typings: dict[int, Callable[..., Any]] = {
        2: lambda _, a, b: typed(a, b),
        4: lambda _, a, b, c, d: typed(a, b, c, d),
        5: lambda _, a, b, c, d, e: typed(a, b, c, d, e),
        6: lambda _, a, b, c, d, e, f: typed(a, b, c, d, e, f),
        8: lambda _, a, b, c, d, e, f, g, h: typed(a, b, c, d, e, f, g, h),
        10: lambda _, a, b, c, d, e, f, g, h, i, j: typed(a, b, c, d, e, f, g, h, i, j),
    }
    return intrinsic(typings[len(kinds)])


def _dot(
    e: _Emit,
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
    e.store(e.fused(e.splat(sign), total, e.load(c, _I64(0))), c, _I64(0))


def _products(
    e: _Emit, a: Any, i_at: Any, j_at: Any, row: Any, depth: Any, c: Any, c_at: Any, c_row: Any
) -> None:
    left, right, c = e.start(0, a, i_at), e.start(0, a, j_at), e.start(5, c, c_at)
    builder = e.builder
    shifts = [builder.mul(row, _I64(r)) for r in range(BLOCK)]

    def terms(k: Any) -> list[tuple[Any, Any]]:
        step = builder.mul(k, _I64(LANES))
        x, y = ([e.load(side, builder.add(shift, step)) for shift in shifts] for side in (left, right))
        return [(one, other) for one in x for other in y]

    for at, total in enumerate(e.sums(depth, BLOCK * BLOCK, terms)):
        place = builder.add(builder.mul(c_row, _I64(at // BLOCK)), _I64(at % BLOCK * LANES))
        e.store(builder.fadd(total, e.load(c, place)), c, place)


def _scale(e: _Emit, c: Any, c_at: Any, d: Any, d_at: Any) -> None:
    c, d = e.start(0, c, c_at), e.start(2, d, d_at)
    e.store(e.builder.fmul(e.load(c, _I64(0)), e.load(d, _I64(0))), c, _I64(0))


def _inverse_root(e: _Emit, c: Any, c_at: Any) -> None:
    c = e.start(0, c, c_at)
    name = f"llvm.sqrt.v{LANES}f32"
    module = e.builder.module
    root = module.globals.get(name) or ir.Function(module, ir.FunctionType(_VECTOR, [_VECTOR]), name)
    one = ir.Constant(_VECTOR, [1.0] * LANES)
    e.store(e.builder.fdiv(one, e.builder.call(root, [e.load(c, _I64(0))])), c, _I64(0))


def _gather(e: _Emit, source: Any, offsets: Any, offsets_at: Any, at: Any, c: Any, c_at: Any) -> None:
    builder = e.builder
    lines, source, c = e.start(1, offsets, offsets_at), e.start(0, source, at), e.start(4, c, c_at)
    rows = [e.load(source, builder.load(builder.gep(lines, [_I64(r)]))) for r in range(LANES)]
    for number, vector in enumerate(e.transposed(rows)):
        e.store(vector, c, _I64(number * LANES))


def _turn(e: _Emit, a: Any, a_at: Any, c: Any, c_at: Any, c_row: Any) -> None:
    a, c = e.start(0, a, a_at), e.start(2, c, c_at)
    for number, vector in enumerate(e.transposed([e.load(a, _I64(r * LANES)) for r in range(LANES)])):
        e.store(vector, c, e.builder.mul(c_row, _I64(number)))


# All arrays are flat; they are float32 but for offsets int64. v[at] is a vector, LANES numbers from `at` on.
lane_dot: Any = _emitted("faiiaiiiai", _dot)
"""lane_dot(sign, a, a_at, a_step, b, b_at, b_step, depth, c, c_at): c[c_at] += sign * sum over k < depth of a[a_at + a_step k] * b[b_at + b_step k]."""
lane_products: Any = _emitted("aiiiiaii", _products)
"""lane_products(a, i_at, j_at, row, depth, c, c_at, c_row): for i, j < BLOCK
c[c_at + c_row i + LANES j] += sum over k < depth of a[i_at + row i + LANES k] * a[j_at + row j + LANES k]."""
lane_scale: Any = _emitted("aiai", _scale)
"""lane_scale(c, c_at, d, d_at): c[c_at] *= d[d_at]."""
lane_inverse_root: Any = _emitted("ai", _inverse_root)
"""lane_inverse_root(c, c_at): c[c_at] = 1 / sqrt(c[c_at])."""
lane_gather: Any = _emitted("aaiiai", _gather)
"""lane_gather(source, offsets, offsets_at, at, c, c_at): place l of the vector c[c_at + LANES n] is source[offsets[offsets_at + l] + at + n], n < LANES."""
lane_turn: Any = _emitted("aiaii", _turn)
"""lane_turn(a, a_at, c, c_at, c_row): c[c_at + c_row l + n] is place l of the vector a[a_at + LANES n]."""

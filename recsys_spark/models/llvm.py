"""What numba has no words for, in LLVM's own language: vectors of LANES numbers and sums of their products, of which tiles.py and lanes.py are made.

numba's cache looks at a function's own file only: after a change here or there, touch the files whose compiled functions call it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
VECTOR = ir.VectorType(ir.FloatType(), LANES)
I64 = ir.IntType(64)


class Emit:
    """Vectors in and out of flat arrays; `at` counts numbers."""

    def __init__(self, context: Any, builder: ir.IRBuilder, signature: Any):
        self.context, self.builder, self.types = context, builder, signature.args

    def start(self, argument: int, array: Any, at: Any) -> Any:
        data = self.context.make_array(self.types[argument])(self.context, self.builder, array).data
        return self.builder.gep(data, [at])

    def pointer(self, start: Any, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(start, [at]), VECTOR.as_pointer())

    def load(self, start: Any, at: Any) -> Any:
        return self.builder.load(self.pointer(start, at), align=4)

    def store(self, vector: Any, start: Any, at: Any) -> None:
        self.builder.store(vector, self.pointer(start, at), align=4)

    def fused(self, x: Any, y: Any, z: Any) -> Any:
        return self.builder.fadd(self.builder.fmul(x, y, flags=("contract",)), z, flags=("contract",))

    def splat(self, number: Any) -> Any:
        undefined = ir.Constant(VECTOR, ir.Undefined)
        one = self.builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(one, undefined, everywhere)

    def sums(self, depth: Any, n: int, terms: Callable[[Any], list[tuple[Any, Any]]]) -> list[Any]:
        """n vectors: the sums over k < depth of the products of `terms(k)`."""
        builder, zero = self.builder, ir.Constant(VECTOR, [0.0] * LANES)
        before = builder.block
        loop, after = builder.append_basic_block("depth"), builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed(">", depth, I64(0)), loop, after)
        builder.position_at_end(loop)
        k, totals = builder.phi(I64), [builder.phi(VECTOR) for _ in range(n)]
        added = [self.fused(x, y, total) for (x, y), total in zip(terms(k), totals, strict=True)]
        following = builder.add(k, I64(1))
        for phi, first, then in zip([k, *totals], [I64(0), *[zero] * n], [following, *added]):
            phi.add_incoming(first, before)
            phi.add_incoming(then, loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
        builder.position_at_end(after)
        found = [builder.phi(VECTOR) for _ in range(n)]
        for phi, then in zip(found, added):
            phi.add_incoming(zero, before)
            phi.add_incoming(then, loop)
        return found


def emitted(kinds: str, emit: Callable[..., Any], gives: Any = types.void) -> Any:
    """The intrinsic of `emit(e, *arguments)`, whose result is numba's type `gives`; `kinds` of the arguments: a array, i integer, f float32."""

    def typed(*given: Any) -> Any:
        plain = {"i": types.int64, "f": types.float32}
        signature = gives(*(plain.get(kind, own) for kind, own in zip(kinds, given, strict=True)))

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            found = emit(Emit(context, builder, signature), *arguments)
            return context.get_dummy_value() if gives is types.void else found

        return signature, generate

    # numba counts the arguments of what it is given
    typings: dict[int, Callable[..., Any]] = {
        1: lambda _, a: typed(a),
        2: lambda _, a, b: typed(a, b),
        4: lambda _, a, b, c, d: typed(a, b, c, d),
        5: lambda _, a, b, c, d, e: typed(a, b, c, d, e),
        6: lambda _, a, b, c, d, e, f: typed(a, b, c, d, e, f),
        8: lambda _, a, b, c, d, e, f, g, h: typed(a, b, c, d, e, f, g, h),
        10: lambda _, a, b, c, d, e, f, g, h, i, j: typed(a, b, c, d, e, f, g, h, i, j),
        12: lambda _, a, b, c, d, e, f, g, h, i, j, k, m: typed(a, b, c, d, e, f, g, h, i, j, k, m),
    }
    return intrinsic(typings[len(kinds)])


def _bare(_typing: Any, array: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        found = context.make_array(signature.args[0])(context, builder, arguments[0])
        found.meminfo, found.parent = (ir.Constant(part.type, None) for part in (found.meminfo, found.parent))
        return found._getvalue()

    return array(array), generate


bare: Any = intrinsic(_bare)
"""An argument of a compiled function without its counter of references, which numba would raise and lower, atomically, whenever a part of the array is named
or handed on. Not for what the function makes itself: numba frees that after its last use by its own name."""

"""Loops and branches on arrays in blocks."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from wsl._infer._blocks import block_rule, BlockInterpreter, drop_axis, take_span
from wsl._infer._control import scan_counts
from wsl._infer._grid import Blocked, common, conform, Cuts, joined, plain, whole


Axes = tuple[Cuts, ...]


@block_rule("scan")
def scan(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """Round by round where the weights of each are apart, and else as a loop."""
    consts, carried = scan_counts(eqn.params)
    fixed, carry = operands[:consts], operands[consts : consts + carried]
    rows = operands[consts + carried :]
    if any(len(dim) > 1 for x in rows for dim in x.axes[0]):
        return _unrolled(interpreter, eqn, fixed, carry, rows)
    return _looped(interpreter, eqn, fixed, carry, rows)


def _unrolled(
    interpreter: BlockInterpreter,
    eqn: Any,
    fixed: list[Blocked],
    carry: list[Blocked],
    rows: list[Blocked],
) -> list[Blocked] | None:
    length = int(eqn.params["length"])
    rounds = range(length)[:: -1 if eqn.params["reverse"] else 1]
    outputs: list[list[Blocked]] = [[] for _ in range(length)]
    for i in rounds:
        row = [drop_axis(take_span(x, 0, i, i + 1), 0) for x in rows]
        results = interpreter.run(eqn.params["jaxpr"], [*fixed, *carry, *row])
        carry, outputs[i] = results[: len(carry)], results[len(carry) :]
    stacked = []
    for column in zip(*outputs, strict=True):
        arrays = [lax.expand_dims(plain(x), (0,)) for x in column]
        stacked.append(whole(lax.concatenate(arrays, 0), True))
    return [*carry, *stacked]


def _looped(
    interpreter: BlockInterpreter,
    eqn: Any,
    fixed: list[Blocked],
    carry: list[Blocked],
    rows: list[Blocked],
) -> list[Blocked] | None:
    params = eqn.params
    # The leading axis is what the loop runs over: the block's own first axis.
    rows = [joined(x, 0) for x in rows]
    kinds: list[Axes] = []

    def body(state: Any, parts: Any) -> Any:
        given = [
            Blocked(axes, blocks, True)
            for axes, blocks in zip(wanted, state, strict=True)
        ]
        row = [
            Blocked(x.axes[1:], {key[1:]: b for key, b in blocks.items()}, x.tainted)
            for x, blocks in zip(rows, parts, strict=True)
        ]
        results = interpreter.run(params["jaxpr"], [*fixed, *given, *row])
        after, outputs = results[: len(carry)], results[len(carry) :]
        kinds[:] = [x.axes for x in results]
        if [x.axes for x in after] != wanted and not final:
            after = given
        elif final:
            after = [_cut_like(x, axes) for x, axes in zip(after, wanted, strict=True)]
        return [x.blocks for x in after], [x.blocks for x in outputs]

    parts = [x.blocks for x in rows]
    options = {"length": int(params["length"]), "reverse": params["reverse"]}
    wanted = [x.axes for x in carry]
    final = False
    for _ in range(6):
        start = [_cut_like(x, axes) for x, axes in zip(carry, wanted, strict=True)]
        row = [
            {k: jax.ShapeDtypeStruct(b.shape[1:], b.dtype) for k, b in blocks.items()}
            for blocks in parts
        ]
        jax.eval_shape(body, [x.blocks for x in start], row)
        finer = [
            _common(before, after)
            for before, after in zip(wanted, kinds[: len(carry)], strict=True)
        ]
        if finer == wanted:
            break
        wanted = finer
    else:
        return None
    final = True
    carry = [_cut_like(x, axes) for x, axes in zip(carry, wanted, strict=True)]
    after, outputs = lax.scan(body, [x.blocks for x in carry], parts, **options)
    length = ((int(params["length"]),),)
    found = [
        Blocked(axes, blocks, True) for axes, blocks in zip(wanted, after, strict=True)
    ]
    for axes, blocks in zip(kinds[len(carry) :], outputs, strict=True):
        lifted = {(0, *key): block for key, block in blocks.items()}
        found.append(Blocked((length, *axes), lifted, True))
    return found


def _common(before: Axes, after: Axes) -> Axes:
    """Cuts that refine both; one piece where they do not fit."""
    found = []
    for x, y in zip(before, after, strict=True):
        cuts = common(x, y)
        found.append(((_length(x),),) if cuts is None else cuts)
    return tuple(found)


def _length(cuts: Cuts) -> int:
    size = 1
    for dim in cuts:
        size *= sum(dim)
    return size


def _cut_like(x: Blocked, axes: Axes) -> Blocked:
    for axis, cuts in enumerate(axes):
        if common(x.axes[axis], cuts) != cuts:
            x = joined(x, axis)
        x = conform(x, axis, cuts)
    return x


@block_rule("cond")
def cond(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """Branches that work in blocks, and join what they return."""
    index, *given = operands
    kinds: Sequence[Any] = [x.axes for x in given]

    def make(branch: Any) -> Any:
        def run(parts: Any) -> Any:
            inputs = [
                Blocked(axes, blocks, x.tainted)
                for axes, blocks, x in zip(kinds, parts, given, strict=True)
            ]
            return [plain(x) for x in interpreter.run(branch, inputs)]

        return run

    branches = [make(branch) for branch in eqn.params["branches"]]
    which = plain(index)
    if which.dtype == bool:
        which = lax.convert_element_type(which, "int32")
    arrays = lax.switch(which, branches, [x.blocks for x in given])
    return [whole(x, True) for x in arrays]

"""Runs a jaxpr on parts, nested ones and loops included."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from wsl._infer import _rules_contract, _rules_index, _rules_shape
from wsl._infer._parts import Axis, Tracker, Value
from wsl._infer._rules import RULES, shape_of, unknown
from wsl._infer._store import Reason


# Imported for the rules that they register.
del _rules_contract, _rules_index, _rules_shape

Wanted: TypeAlias = tuple[bool, ...]
Control: TypeAlias = Callable[
    ["Interpreter", Any, Sequence[Value], Wanted], list[Value] | None
]
_CONTROL: dict[str, Control] = {}
_CALLS = (
    "call checkpoint closed_call composite core_call custom_jvp_call custom_vjp_call "
    "custom_vjp_call_jaxpr jit pjit remat remat2"
).split()


class Interpreter:
    """Runs jaxprs on the parts of their inputs.

    Attributes:
        tracker: What learns from it.
        watch: Told of every equation of the outermost jaxpr and its results.
    """

    tracker: Tracker
    watch: Callable[[Any, list[Value]], None] | None

    def __init__(self, tracker: Tracker):
        """Keeps nothing but the tracker and what does not depend on parts."""
        self.tracker = tracker
        self.watch = None
        self._depth = 0
        self._constants: dict[int, tuple[Any, tuple]] = {}
        self._needed: dict[tuple[int, Wanted], tuple[Any, list[tuple[Any, Wanted]]]]
        self._needed = {}

    def run(
        self, jaxpr: Any, inputs: Sequence[Value], wanted: Wanted | None = None
    ) -> list[Value]:
        """The parts of the outputs; where an output is not wanted, of anything."""
        inner = getattr(jaxpr, "jaxpr", jaxpr)
        constants = [self.constant(c) for c in getattr(jaxpr, "consts", ())]
        known: dict[Any, Value] = dict(
            zip((*inner.constvars, *inner.invars), (*constants, *inputs), strict=True)
        )

        def read(variable: Any) -> Value:
            if isinstance(variable, Literal):
                return self.constant(variable.val)
            return known[variable]

        wanted = wanted or (True,) * len(inner.outvars)
        self._depth += 1
        for eqn, used in self._equations(inner, wanted):
            results = self._equation(eqn, [read(v) for v in eqn.invars], used)
            if self.watch is not None and self._depth == 1:
                self.watch(eqn, results)
            known.update(zip(eqn.outvars, results, strict=True))
        self._depth -= 1
        return [
            read(v) if want else Value(())
            for v, want in zip(inner.outvars, wanted, strict=True)
        ]

    def constant(self, array: Any) -> Value:
        """The parts of a known array: uniform or fixed."""
        if id(array) not in self._constants:
            # Kept with the array, so that its id stays its own.
            self._constants[id(array)] = (array, _uniform_axes(array))
        uniform = self._constants[id(array)][1]
        return Value(
            tuple(
                self.tracker.uniform(n)
                if same
                else self.tracker.fixed(n, Reason("constant"))
                for n, same in uniform
            )
        )

    def _equation(self, eqn: Any, inputs: Sequence[Value], used: Wanted) -> list[Value]:
        follow = _CONTROL.get(eqn.primitive.name)
        results = None if follow is None else follow(self, eqn, inputs, used)
        if results is not None:
            return results
        operands = [self.tracker.operand(value) for value in inputs]
        apply = RULES.get(eqn.primitive.name)
        results = None if apply is None else apply(self.tracker, eqn, operands)
        if results is None or not _fit(eqn.outvars, results):
            results = unknown(self.tracker, eqn, operands)
        return self.tracker.results(operands, results)

    def _equations(self, jaxpr: Any, wanted: Wanted) -> list[tuple[Any, Wanted]]:
        """The equations that matter, and which of their results do."""
        if (id(jaxpr), wanted) not in self._needed:
            live = {
                v
                for v, want in zip(jaxpr.outvars, wanted, strict=True)
                if want and not isinstance(v, Literal)
            }
            needed = []
            for eqn in reversed(jaxpr.eqns):
                used = tuple(v in live for v in eqn.outvars)
                if any(used) or eqn.effects and eqn.primitive.name not in _PRINTS:
                    needed.append((eqn, used))
                    live.update(v for v in eqn.invars if not isinstance(v, Literal))
            self._needed[id(jaxpr), wanted] = (jaxpr, needed[::-1])
        return self._needed[id(jaxpr), wanted][1]


def used_inputs(jaxpr: Any, wanted: Wanted | None = None) -> set[int]:
    """Positions of the inputs that an output, or one of those wanted, depends on."""
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    wanted = wanted or (True,) * len(inner.outvars)
    outputs = zip(inner.outvars, wanted, strict=True)
    live = {v for v, want in outputs if want and not isinstance(v, Literal)}
    for eqn in reversed(inner.eqns):
        used = tuple(v in live for v in eqn.outvars)
        if not any(used) and not (eqn.effects and eqn.primitive.name not in _PRINTS):
            continue
        reached = range(len(eqn.invars))
        if eqn.primitive.name in _CALLS:
            function = _function_of(eqn, len(eqn.invars))
            reached = reached if function is None else used_inputs(function, used)
        given = [eqn.invars[i] for i in reached]
        live.update(v for v in given if not isinstance(v, Literal))
    return {i for i, v in enumerate(inner.invars) if v in live}


def _function_of(eqn: Any, number: int) -> Any:
    """The function that a call calls, if it has as many inputs."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        jaxpr = eqn.params.get(name)
        inner = getattr(jaxpr, "jaxpr", jaxpr)
        if inner is not None and len(inner.invars) == number:
            return jaxpr
    return None


def _fit(variables: Sequence[Any], values: Sequence[Value]) -> bool:
    """Whether axes have the lengths that they must have; empty ones have no parts."""
    return [tuple(n or 1 for n in shape_of(v)) for v in variables] == [
        tuple(math.prod(s.size for s in axis) for axis in value.axes)
        for value in values
    ]


_PRINTS = ("debug_callback", "debug_print")


def _uniform_axes(array: Any) -> tuple[tuple[int, bool], ...]:
    """Length of each axis, and whether an array is constant along it, to the bit."""
    shape = tuple(jnp.shape(array))
    if isinstance(array, jax.Array) and jnp.issubdtype(
        array.dtype, jax.dtypes.extended
    ):
        return tuple((n, False) for n in shape)
    numbers = np.asarray(array)
    found = []
    for d, n in enumerate(shape):
        rows = np.ascontiguousarray(np.moveaxis(numbers, d, 0)).reshape(n, -1)
        rows = rows.view(np.uint8) if rows.size else rows
        found.append((n, bool((rows == rows[:1]).all())))
    return tuple(found)


def _control(*names: str) -> Callable[[Control], Control]:
    def register(function: Control) -> Control:
        _CONTROL.update(dict.fromkeys(names, function))
        return function

    return register


@_control(*_CALLS)
def _call(interpreter: Interpreter, eqn: Any, inputs: Sequence[Value], used: Wanted):
    """A function within the function."""
    function = _function_of(eqn, len(inputs))
    return None if function is None else interpreter.run(function, inputs, used)


@_control("custom_linear_solve")
def _solve(interpreter: Interpreter, eqn: Any, inputs: Sequence[Value], used: Wanted):
    """What solves; the products with the matrix are there for derivatives only."""
    counts, solve = eqn.params["const_lengths"], eqn.params["jaxprs"].solve
    start = counts.matvec + counts.vecmat
    held = inputs[start : start + counts.solve]
    sides = inputs[sum(counts) :]
    return interpreter.run(solve, [*held, *sides], used)


@_control("cond")
def _cond(interpreter: Interpreter, eqn: Any, inputs: Sequence[Value], used: Wanted):
    """Any of the branches."""
    branches = [
        interpreter.run(branch, inputs[1:], used) for branch in eqn.params["branches"]
    ]
    return [
        interpreter.tracker.merge(values) if want else values[0]
        for values, want in zip(zip(*branches, strict=True), used, strict=True)
    ]


@_control("while")
def _while(interpreter: Interpreter, eqn: Any, inputs: Sequence[Value], used: Wanted):
    """Any number of rounds."""
    del used
    params = eqn.params
    first, second = params["cond_nconsts"], params["body_nconsts"]
    test_inputs, body_inputs = inputs[:first], inputs[first : first + second]
    carry = list(inputs[first + second :])

    def body(carry: list[Value]) -> list[Value]:
        interpreter.run(params["cond_jaxpr"], [*test_inputs, *carry])
        return interpreter.run(params["body_jaxpr"], [*body_inputs, *carry])

    carry, _ = _repeat(interpreter.tracker, body, carry)
    return carry


def scan_counts(params: Any) -> tuple[int, int]:
    """How many inputs of a scan are constants, and how many are carried."""
    if "ft_in" in params:
        consts, carried = (len(part) for part in params["ft_in"].unpack()[:2])
        return consts, carried
    return params["num_consts"], params["num_carry"]


@_control("scan")
def _scan(interpreter: Interpreter, eqn: Any, inputs: Sequence[Value], used: Wanted):
    """Rounds over the leading axis of some inputs, which stays in order."""
    del used
    params, tracker, reason = eqn.params, interpreter.tracker, Reason("scan")
    consts, carried = scan_counts(params)
    rows = []
    for value in inputs[consts + carried :]:
        spans = [(i, i + 1) for i in range(int(params["length"]))]
        if tracker.explore(value.axes[0], spans, id(eqn)) is None:
            tracker.freeze(value.axes[0], reason)
        rows.append(Value(value.axes[1:]))

    def body(carry: list[Value]) -> list[Value]:
        return interpreter.run(params["jaxpr"], [*inputs[:consts], *carry, *rows])

    carry, outputs = _repeat(tracker, body, list(inputs[consts:][:carried]))
    leading: Axis = tracker.fixed(int(params["length"]), reason)
    return [*carry, *(Value((leading, *value.axes)) for value in outputs)]


def _repeat(
    tracker: Tracker,
    body: Callable[[list[Value]], list[Value]],
    carry: list[Value],
) -> tuple[list[Value], list[Value]]:
    """Runs the body of a loop until another round tells nothing new of its carry."""
    while True:
        outputs = body(carry)
        merged = [
            tracker.merge(pair)
            for pair in zip(carry, outputs[: len(carry)], strict=True)
        ]
        before, after = (
            [tracker.signature(v) for v in values] for values in (carry, merged)
        )
        if before == after:
            return carry, outputs[len(carry) :]
        carry = merged

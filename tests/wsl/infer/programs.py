"""Random programs that use weights, to run on numpy and to trace with JAX.

A program is a list of instructions: the name of an operation and four numbers, which
choose operands, axes and sizes among those that fit. Any list is a program.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np


Instruction = tuple[str, int, int, int, int]
_SIZES = (2, 3, 4, 6)
_MAX_SIZE = 72


class Machine:
    """Runs a program on one backend; values pile up, and are read out at the end."""

    def __init__(self, xp, dtype, leaves=None):
        self.xp, self.dtype = xp, dtype
        self.leaves = leaves
        self.used = 0
        self.shapes: list[tuple[int, ...]] = []

    def weight(self, *shape, reuse=-1):
        """The next leaf, or one of the shape used before."""
        fitting = [i for i, s in enumerate(self.shapes) if s == shape]
        if reuse >= 0 and fitting:
            return self.leaf(fitting[reuse % len(fitting)])
        self.shapes.append(shape)
        return self.leaf(len(self.shapes) - 1)

    def leaf(self, i):
        if self.leaves is None:
            return self.xp.ones(self.shapes[i], self.dtype)
        return self.leaves[i]

    def constant(self, array):
        return self.xp.asarray(np.asarray(array, np.float64).astype(self.dtype))

    def run(self, program, x):
        xp = self.xp
        values = [xp.tanh(self.weight(4, len(x)) @ x)]
        for name, *choices in program:
            value = values[-1 - choices[0] % min(len(values), 3)]
            result = _OPERATIONS[name](self, values, value, *choices[1:])
            if result is None or result.ndim == 0:
                continue
            if 0 < math.prod(result.shape) <= _MAX_SIZE:
                values.append(result)
        read = []
        for value in values[-3:]:
            flat = value.reshape(-1)
            if value.ndim > 1:
                flat = value.reshape(value.shape[0], -1).sum(1)
            read.append(self.weight(2, len(flat)) @ xp.tanh(flat))
            read.append(xp.sin(value).sum().reshape(1))
        return xp.concatenate(read)


def _axis(value, a):
    return a % value.ndim


def _linear(m, values, v, a, b, c):
    axis, size = _axis(v, a), _SIZES[b % 4]
    w = m.weight(size, v.shape[axis], reuse=c % 5 - 1)
    out = m.xp.tensordot(w, v, axes=((1,), (axis,)))
    return m.xp.moveaxis(out, 0, axis if c % 2 else 0)


def _bias(m, values, v, a, b, c):
    axis = _axis(v, a)
    w = m.weight(v.shape[axis], reuse=c % 3 - 1)
    shape = [n if d == axis else 1 for d, n in enumerate(v.shape)]
    return v + w.reshape(shape) if b % 2 else v * w.reshape(shape)


def _full_bias(m, values, v, a, b, c):
    return v + m.weight(*v.shape, reuse=c % 3 - 1)


def _unary(m, values, v, a, b, c):
    return [m.xp.tanh, m.xp.sin, m.xp.abs, lambda v: v * 0.5][a % 4](v)


def _softmax(m, values, v, a, b, c):
    axis = _axis(v, a)
    e = m.xp.exp(v - v.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True) + (0.1 * v if b % 2 else 0.0)


def _normalise(m, values, v, a, b, c):
    axes = _axis(v, a) if b % 2 else None
    mean = v.mean(axes, keepdims=True)
    return (v - mean) / m.xp.sqrt(((v - mean) ** 2).mean(axes, keepdims=True) + 0.1)


def _reduce(m, values, v, a, b, c):
    if v.ndim < 2:
        return None
    return [v.sum, v.max, v.mean][b % 3](_axis(v, a))


def _transpose(m, values, v, a, b, c):
    return m.xp.moveaxis(v, _axis(v, a), _axis(v, b))


def _split_axis(m, values, v, a, b, c):
    axis = _axis(v, a)
    n = v.shape[axis]
    sizes = [p for p in range(2, n) if n % p == 0]
    if not sizes or v.ndim > 3:
        return None
    p = sizes[b % len(sizes)]
    return v.reshape(*v.shape[:axis], p, n // p, *v.shape[axis + 1 :])


def _merge_axes(m, values, v, a, b, c):
    if v.ndim < 2:
        return None
    axis = a % (v.ndim - 1)
    n = v.shape[axis] * v.shape[axis + 1]
    return v.reshape(*v.shape[:axis], n, *v.shape[axis + 2 :])


def _reshape(m, values, v, a, b, c):
    n = math.prod(v.shape)
    sizes = [p for p in range(2, n) if n % p == 0]
    return v.reshape(sizes[a % len(sizes)], -1) if sizes else None


def _halves(m, values, v, a, b, c):
    axis = _axis(v, a)
    if v.shape[axis] % 2:
        return None
    x, y = m.xp.split(v, 2, axis)
    return [x + y, x * m.xp.tanh(y), m.xp.concatenate([y, -x], axis)][b % 3]


def _slice(m, values, v, a, b, c):
    axis = _axis(v, a)
    n = v.shape[axis]
    start = b % n
    stop = start + 1 + c % (n - start)
    return v[(slice(None),) * axis + (slice(start, stop),)]


def _order(m, values, v, a, b, c):
    axis, xp = _axis(v, a), m.xp
    return [
        lambda: xp.flip(v, axis),
        lambda: xp.cumsum(v, axis),
        lambda: xp.sort(v, axis),
        lambda: xp.roll(v, 1 + c, axis),
        lambda: v[(slice(None),) * axis + (slice(None, None, 2),)],
        lambda: xp.pad(v, [(0, int(d == axis)) for d in range(v.ndim)]),
        lambda: v * xp.expand_dims(xp.argmax(v, axis), axis).astype(m.dtype),
    ][b % 7]()


def _binary(m, values, v, a, b, c):
    same = [w for w in values[:-1] if w.shape == v.shape] or [v]
    w = same[a % len(same)]
    return [v + w, v * w, m.xp.maximum(v, w)][b % 3]


def _join(m, values, v, a, b, c):
    axis = _axis(v, a)
    fitting = [
        w
        for w in values
        if w.ndim == v.ndim
        and all(
            d == axis or n == k
            for d, (n, k) in enumerate(zip(v.shape, w.shape, strict=True))
        )
    ]
    return m.xp.concatenate([v, fitting[b % len(fitting)]], axis)


def _contract(m, values, v, a, b, c):
    w, axis = values[b % len(values)], _axis(v, a)
    fitting = [d for d, n in enumerate(w.shape) if n == v.shape[axis]]
    if not fitting or v.ndim + w.ndim > 5:
        return None
    return m.xp.tanh(m.xp.tensordot(v, w, axes=((axis,), (fitting[c % len(fitting)],))))


def _scores(m, values, v, a, b, c):
    if v.ndim != 3:
        return None
    patterns = ["abc,dbc->bad", "abc,adc->bd", "abc,abd->acd", "abc,abc->ac"]
    return m.xp.tanh(m.xp.einsum(patterns[b % 4], v, v))


def _outer(m, values, v, a, b, c):
    w = values[b % len(values)]
    if v.ndim + w.ndim > 3:
        return None
    return m.xp.tanh(m.xp.tensordot(v, w, axes=0))


def _broadcast(m, values, v, a, b, c):
    size, axis = _SIZES[b % 4], a % (v.ndim + 1)
    ones = m.xp.ones((size,), m.dtype)
    return m.xp.moveaxis(m.xp.tensordot(ones, v, axes=0), 0, axis)


def _constant(m, values, v, a, b, c):
    axis = _axis(v, a)
    n = v.shape[axis]
    numbers = np.arange(1.0, n + 1) if b % 2 else np.full(n, 2.0)
    shape = [n if d == axis else 1 for d in range(v.ndim)]
    return v * m.constant(numbers).reshape(shape)


def _take(m, values, v, a, b, c):
    axis = _axis(v, a)
    index = np.array([b, c, b + c]) % v.shape[axis]
    return m.xp.take(v, index, axis=axis)


def _recur(m, values, v, a, b, c):
    if v.ndim != 2:
        return None
    size = _SIZES[b % 4]
    w_in, w_hh = m.weight(size, v.shape[1]), m.weight(size, size)

    def step(h, x):
        h = m.xp.tanh(w_in @ x + w_hh @ h)
        return h, h

    h = m.xp.zeros((size,), m.dtype)
    if m.xp is jnp:
        h, all_h = jax.lax.scan(step, h, v)
    else:
        rounds = []
        for x in v:
            h, _ = step(h, x)
            rounds.append(h)
        all_h = np.stack(rounds)
    return all_h if c % 2 else h


def _leaf(m, values, v, a, b, c):
    shape = (_SIZES[a % 4], _SIZES[b % 4])
    w = m.weight(*shape, reuse=c % 3 - 1)
    return w + w.T if c % 2 and shape[0] == shape[1] else w


_OPERATIONS = {
    "linear": _linear,
    "bias": _bias,
    "full bias": _full_bias,
    "unary": _unary,
    "softmax": _softmax,
    "normalise": _normalise,
    "reduce": _reduce,
    "transpose": _transpose,
    "split axis": _split_axis,
    "merge axes": _merge_axes,
    "reshape": _reshape,
    "halves": _halves,
    "slice": _slice,
    "order": _order,
    "binary": _binary,
    "join": _join,
    "contract": _contract,
    "scores": _scores,
    "outer": _outer,
    "broadcast": _broadcast,
    "constant": _constant,
    "take": _take,
    "recur": _recur,
    "leaf": _leaf,
}

OPERATIONS = tuple(_OPERATIONS)

# Operations that never fix all that they touch, so that something stays free.
GENTLE = tuple(
    name
    for name in OPERATIONS
    if name not in ("reshape", "slice", "order", "constant", "take", "join")
)

# Operations that put axes together and cut them, and what mixes the parts again.
JOINING = tuple(
    "linear bias unary halves slice join recur contract binary transpose".split()
) + ("split axis", "merge axes")


def leaf_shapes(program):
    """Shapes of the weights that a program uses, in order of use."""
    machine = Machine(np, np.float64)
    machine.run(program, np.ones(3))
    return machine.shapes


def traced(program):
    """The program as a function of its weights, for JAX."""

    def fn(leaves, x):
        return Machine(jnp, np.float32, leaves).run(program, x)

    return fn


def evaluated(program, leaves, x):
    """What it computes, in float64."""
    return Machine(np, np.float64, leaves).run(program, x)

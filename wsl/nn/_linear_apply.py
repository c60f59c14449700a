"""From leaves to the inputs of each mix, and from its outputs to leaves."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from wsl.nn._basis import Basis, Pattern
from wsl.nn._basis_apply import ascending, broadcast, Part, pool


def pool_leaves(
    basis: Basis, folded: Sequence[Float[Array, "..."]]
) -> list[Float[Array, "..."]]:
    """For each mix all that is pooled to its indices, side by side in channels.

    Args:
        basis: The terms.
        folded: The folded features of each leaf.

    Returns:
        For each mix its inputs, with the mix's indices and a last axis of channels.
    """
    pooled: list[list[Array]] = [[] for _ in basis.mixes]
    for s, signature in enumerate(basis.signatures):
        stacked = _concatenate(
            [
                folded[leaf].transpose(*order, len(order))
                for leaf, order in zip(signature.leaves, signature.orders, strict=True)
            ]
        )
        wanted = [
            (m, pattern)
            for m, mix in enumerate(basis.mixes)
            for t, pattern in mix.inputs
            if t == s
        ]
        arrays = pool(stacked, signature.form, [pattern for _, pattern in wanted])
        for (m, _), array in zip(wanted, arrays, strict=True):
            pooled[m].append(array)
    return [_concatenate(arrays) for arrays in pooled]


def broadcast_to_leaves(
    basis: Basis,
    channels: Sequence[int],
    mixed: Sequence[Float[Array, "..."]],
    bias: Float[Array, " constants"] | None,
) -> list[Float[Array, "..."]]:
    """Brings the outputs of all mixes to the leaves, and adds the bias.

    Args:
        basis: The terms.
        channels: For each leaf the channels that come out.
        mixed: The outputs of each mix, side by side.
        bias: All constants, side by side; or None.

    Returns:
        For each leaf its folded features.
    """
    widths = [
        [basis.layouts[leaf].fixed * channels[leaf] for leaf in signature.leaves]
        for signature in basis.signatures
    ]
    parts: list[dict[Part, Array]] = [{} for _ in basis.signatures]

    def divide(outputs: Sequence[tuple[int, Pattern]], array: Array) -> None:
        pieces = _split(array, [sum(widths[s]) for s, _ in outputs])
        for (s, pattern), piece in zip(outputs, pieces, strict=True):
            part, piece = ascending(pattern, piece)
            parts[s][part] = piece

    # What carries no index, of however many mixes, is in the order of the constants.
    totals = []
    for mix, array in zip(basis.mixes, mixed, strict=True):
        if mix.form:
            divide(mix.outputs, array)
        else:
            totals.append(array)
    if totals:
        total = _concatenate(totals)
        divide(basis.constants, total if bias is None else total + bias)
    elif bias is not None:
        divide(basis.constants, bias)

    leaves: list[Array | None] = [None] * len(basis.layouts)
    for s, signature in enumerate(basis.signatures):
        array = broadcast(parts[s], signature.form, signature.sizes)
        pieces = _split(array, widths[s])
        for leaf, order, piece in zip(
            signature.leaves, signature.orders, pieces, strict=True
        ):
            back = sorted(range(len(order)), key=order.__getitem__)
            leaves[leaf] = piece.transpose(*back, len(order))
    return [leaf for leaf in leaves if leaf is not None]


def _concatenate(arrays: Sequence[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays, -1)


def _split(array: Array, widths: Sequence[int]) -> list[Array]:
    stops = list(itertools.accumulate(widths, initial=0))
    if len(widths) == 1:
        return [array]
    return [array[..., start:stop] for start, stop in itertools.pairwise(stops)]

"""Alignment of many networks with one another."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from wsl._space import check_space, GroupElement, is_weight, WeightSpace
from wsl.matching._descent import match_weights


Weights = TypeVar("Weights")


@dataclasses.dataclass(frozen=True)
class ManyMatch(Generic[Weights]):
    """How [`match_many`][wsl.matching.match_many] aligned networks.

    Attributes:
        elements: For each network the group element that brings it into the common
            order.
        aligned: The networks, moved by them.
        mean: The mean of the aligned networks' weights, as a network.
        spread: Root of the mean squared distance of the aligned networks from it.
        spreads: The same after each round, the first before any refinement.
    """

    elements: tuple[GroupElement, ...]
    aligned: tuple[Weights, ...]
    mean: Weights
    spread: float
    spreads: tuple[float, ...]


def match_many(
    space: WeightSpace,
    networks: Sequence[Weights],
    *,
    key: PRNGKeyArray,
    num_restarts: int = 1,
    max_rounds: int = 10,
    leaf_weights: Mapping[str, float] | None = None,
) -> ManyMatch[Weights]:
    """Aligns networks with one another: one element for each, into a common order.

    As every network has one element, what brings one to another, `inverse(to)` after
    `from`, is consistent around any cycle: going over a third network is going
    directly. Matched pair by pair, it would not be.

    All are first aligned to the network that is nearest to the others, then each in
    turn, in random order, to the mean of the rest as they are aligned, starting from
    where it is. Each step can only bring the networks closer together; it ends when a
    round changes nothing.

    Source: Ainsworth et al. 2023 (Git Re-Basin), algorithm 3 (merging many models);
    the consistency of cycles as in Crisostomi et al. 2024.

    Args:
        space: The space of all.
        networks: Weights, or models, two or more.
        key: Source of randomness.
        num_restarts: How many random starts the first alignments have.
        max_rounds: How many rounds at most.
        leaf_weights: As of [`match_weights`][wsl.match_weights].

    Returns:
        Elements, aligned networks, and their mean.

    Raises:
        ValueError: If there are fewer than two networks, or some are not of the space
            or not finite.
    """
    check_space(space)
    networks = list(networks)
    if len(networks) < 2:
        raise ValueError(f"Two networks or more can be matched; got {len(networks)}.")
    first_key, *keys = jr.split(key, len(networks) + 1)
    options = {"num_restarts": num_restarts, "leaf_weights": leaf_weights}
    vectors = [np.asarray(space.flatten(network), float) for network in networks]
    gaps = [sum(float(np.linalg.norm(x - y)) for y in vectors) for x in vectors]
    centre = int(np.argmin(gaps))
    elements = [
        space.identity()
        if i == centre
        else match_weights(
            space, networks[centre], network, key=keys[i], **options
        ).element
        for i, network in enumerate(networks)
    ]
    aligned = [space.permute(x, e) for x, e in zip(networks, elements, strict=True)]
    spreads = [_spread(space, aligned)]
    random = np.random.default_rng(np.asarray(jr.bits(first_key, (4,), jnp.uint32)))
    for _ in range(max_rounds):
        changed = False
        for i in random.permutation(len(networks)):
            rest = average([x for j, x in enumerate(aligned) if j != i])
            found = match_weights(
                space,
                rest,
                networks[i],
                key=keys[i],
                num_restarts=0,
                informed=False,
                initial=elements[i],
                leaf_weights=leaf_weights,
            )
            if any(
                bool((found.element[group] != elements[i][group]).any())
                for group in space.groups
            ):
                elements[i], aligned[i] = found.element, found.aligned
                changed = True
        spreads.append(_spread(space, aligned))
        if not changed:
            break
    return ManyMatch(
        tuple(elements), tuple(aligned), average(aligned), spreads[-1], tuple(spreads)
    )


def average(
    networks: Sequence[Weights], shares: Sequence[float] | None = None
) -> Weights:
    """The mean of networks' weights, as a network.

    Args:
        networks: Networks of one form, aligned.
        shares: What each counts, in any unit; alike unless given.

    Returns:
        A network with the mean of all floating-point arrays, in the first one's dtypes;
        everything else is the first one's.

    Raises:
        ValueError: If there are no networks, they are of different forms, or the shares
            do not fit.
    """
    networks = list(networks)
    shares = [1.0] * len(networks) if shares is None else list(shares)
    if not networks or len(shares) != len(networks) or not sum(shares):
        raise ValueError(
            f"Needs a share for each network, of a sum that is not 0; got "
            f"{len(networks)} networks and the shares {shares}."
        )
    weights = [eqx.filter(network, is_weight) for network in networks]
    shapes = [
        (jax.tree.structure(w), [x.shape for x in jax.tree.leaves(w)]) for w in weights
    ]
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"Network {i} has other leaves or shapes than network 0, so that they "
                "have no mean."
            )

    def mean(*leaves: jax.Array) -> jax.Array:
        total = sum(
            share / sum(shares) * np.asarray(x, float)
            for share, x in zip(shares, leaves, strict=True)
        )
        return jnp.asarray(total, leaves[0].dtype)

    return eqx.combine(jax.tree.map(mean, *weights), networks[0])


def _spread(space: WeightSpace, networks: Sequence[Weights]) -> float:
    vectors = np.stack([np.asarray(space.flatten(x), float) for x in networks])
    return float(np.sqrt(((vectors - vectors.mean(0)) ** 2).sum(1).mean()))

"""Populations whose policies have arrays in common."""

from collections.abc import Callable
from typing import Any, final, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Int, PyTree


Tree = TypeVar("Tree", bound=PyTree)


@final
class SharedPopulation(eqx.Module):
    """Policies that have arrays in common, and each some of its own.

    What they have in common is not copied: it goes to every device and thread once, and
    products with it are one for all policies that are stepped together. `make_policy`
    is given the same with one row of `own`. It should only put arrays together, since
    an engine may call it at every step.

    Attributes:
        shared: Arrays that all policies have.
        own: Arrays of each, with the policies first.
    """

    shared: PyTree
    own: PyTree


def count_policies(population: PyTree[Array]) -> int:
    """How many policies a population has."""
    own = population.own if isinstance(population, SharedPopulation) else population
    return jax.tree.leaves(own)[0].shape[0]


def take_policies(population: Tree, rows: Int[Array, " rows"] | Int[Array, ""]) -> Tree:
    """Policies in some rows of a population, or in one; what is shared stays."""
    own, whole = split_shared(population)
    return whole(jax.tree.map(lambda leaf: leaf[rows], own))


def split_shared(population: Any) -> tuple[PyTree[Array], Callable[[PyTree], Any]]:
    """Splits off what each policy has of its own.

    Args:
        population: A population.

    Returns:
        Arrays with the policies first, and a function from some of their rows, or one,
        back to what `make_policy` is given.
    """
    if not isinstance(population, SharedPopulation):
        return population, lambda own: own
    shared = population.shared
    return population.own, lambda own: SharedPopulation(shared, own)


def axes_of(population: Any) -> Any:
    """For `jax.vmap`: along which axis of its arrays the policies are."""
    if isinstance(population, SharedPopulation):
        return SharedPopulation(None, 0)
    return 0

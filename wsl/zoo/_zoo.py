import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree, Shaped


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Zoo:
    """Trained networks, what is known about each, and which split it belongs to.

    Networks of one architecture are stacked leaf by leaf: an ordinary module whose
    arrays have one more axis, first, which `equinox.filter_vmap` runs over. Networks of
    several architectures are several such groups.

    Attributes:
        groups: The networks, one stack for each architecture.
        labels: Arrays by name, one entry for each network: those of the first group
            first.
        parts: For each network the name of its split: `"train"`, `"validation"`,
            `"test"` or `"out_of_range"`.
        data: What the networks were trained on, by name; the same in every split.
    """

    groups: tuple[PyTree, ...]
    labels: Mapping[str, np.ndarray]
    parts: Shaped[np.ndarray, " networks"]
    data: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        wrong = {name for name, x in self.labels.items() if len(x) != len(self.parts)}
        if sum(self._sizes) != len(self.parts) or wrong:
            raise ValueError(
                f"There are {sum(self._sizes)} networks, {len(self.parts)} entries in "
                f"`parts`; labels with another number of entries: {sorted(wrong)}."
            )

    def __len__(self) -> int:
        return len(self.parts)

    def __repr__(self) -> str:
        names, counts = np.unique(self.parts, return_counts=True)
        parts = ", ".join(f"{n} {m}" for n, m in zip(names, counts, strict=True))
        return (
            f"Zoo({len(self)} networks in {len(self.groups)} groups; {parts}; "
            f"labels: {', '.join(self.labels)}; data: {', '.join(self.data)})"
        )

    @property
    def networks(self) -> PyTree:
        """All networks, stacked leaf by leaf.

        Raises:
            ValueError: If they are of several architectures.
        """
        if len(self.groups) != 1:
            raise ValueError(
                f"The networks are of {len(self.groups)} architectures and cannot be "
                "stacked as one. Take them from `groups`, one stack an architecture, "
                "or from `batches`; `split` may leave one architecture."
            )
        return self.groups[0]

    def split(self, *names: str) -> "Zoo":
        """The networks of a split, or of several together.

        Args:
            *names: Names of splits.

        Returns:
            A zoo of these networks alone, in the order they have here.

        Raises:
            ValueError: If the zoo has no network of a split.
        """
        present = [str(name) for name in np.unique(self.parts)]
        for name in names:
            if name not in present:
                raise ValueError(f"No network is in split {name!r}; splits: {present}.")
        return self._select(np.isin(self.parts, names))

    def by_architecture(self) -> "tuple[Zoo, ...]":
        """One zoo for each architecture.

        Returns:
            Zoos of one group each, in the order of `groups`.
        """
        return tuple(
            Zoo(
                (group,),
                {name: values[start:stop] for name, values in self.labels.items()},
                self.parts[start:stop],
                self.data,
            )
            for group, (start, stop) in zip(self.groups, self._ranges, strict=True)
        )

    def batches(
        self, batch_size: int, *, key: PRNGKeyArray
    ) -> Iterator[tuple[PyTree, dict[str, np.ndarray]]]:
        """Goes through all networks once, in random order.

        Args:
            batch_size: How many networks a batch has. All networks of a batch are of
                one architecture, and the last batch of each is smaller where the
                number does not divide.
            key: Source of randomness.

        Returns:
            An iterator over pairs of stacked networks and their labels.

        Raises:
            ValueError: If the size is not positive.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be positive; got {batch_size}.")
        random = np.random.default_rng(np.asarray(jr.key_data(key)))
        batches = []
        for group, (start, stop) in enumerate(self._ranges):
            order = random.permutation(stop - start)
            for i in range(0, len(order), batch_size):
                batches.append((group, order[i : i + batch_size]))
        random.shuffle(batches)
        return (self._batch(group, chosen) for group, chosen in batches)

    def _batch(
        self, group: int, chosen: np.ndarray
    ) -> tuple[PyTree, dict[str, np.ndarray]]:
        start, _ = self._ranges[group]
        return take(self.groups[group], chosen), {
            name: values[start + chosen] for name, values in self.labels.items()
        }

    @property
    def _sizes(self) -> list[int]:
        return [
            len(jax.tree.leaves(eqx.filter(group, eqx.is_array))[0])
            for group in self.groups
        ]

    @property
    def _ranges(self) -> list[tuple[int, int]]:
        ends = np.cumsum(self._sizes).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))

    def _select(self, wanted: Shaped[np.ndarray, " networks"]) -> "Zoo":
        return Zoo(
            tuple(
                take(group, np.flatnonzero(wanted[start:stop]))
                for group, (start, stop) in zip(self.groups, self._ranges, strict=True)
                if wanted[start:stop].any()
            ),
            {name: values[wanted] for name, values in self.labels.items()},
            self.parts[wanted],
            self.data,
        )


def map_arrays(function: Callable, networks: PyTree) -> PyTree:
    """The networks with a function applied to each of their arrays."""
    return jax.tree.map(lambda x: function(x) if eqx.is_array(x) else x, networks)


def take(networks: PyTree, chosen: np.ndarray | int) -> PyTree:
    """Some networks of a stack, in the order given, or one of them."""
    # In NumPy: JAX would compile anew for each number of networks.
    return map_arrays(lambda x: jnp.asarray(np.asarray(x)[chosen]), networks)


def split_by_order(number: int) -> Shaped[np.ndarray, " networks"]:
    """The split of each of `number` networks that were drawn alike, and of more.

    Args:
        number: How many there are, beside those out of range.

    Returns:
        Names: 70 % `"train"`, then 10 % `"validation"`, then `"test"`, and a fifth more
        `"out_of_range"`.

    Raises:
        ValueError: If there are fewer than 10, so that a split would be empty.
    """
    if number < 10:
        raise ValueError(
            f"`num_networks` must be 10 or more, for all splits; got {number}."
        )
    train, validation = 7 * number // 10, number // 10
    counts = {
        "train": train,
        "validation": validation,
        "test": number - train - validation,
        "out_of_range": number // 5,
    }
    return np.repeat(list(counts), list(counts.values()))

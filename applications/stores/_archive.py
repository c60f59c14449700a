from typing import final, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Int, PRNGKeyArray


# Up to this capacity a shuffle of everything costs nothing to speak of.
_SHUFFLED = 1 << 16

Entries = TypeVar("Entries")


@final
class Archive(eqx.Module, Generic[Entries]):
    """A ring buffer that takes whole batches and forgets the oldest.

    Attributes:
        entries: Any pytree of arrays with the capacity as first axis.
        added: How many entries were added. Once the archive is full, counted modulo
            the capacity, so that it never overflows.
        batch: How many entries are added at once.
    """

    entries: Entries
    added: Int[Array, ""]
    batch: int = eqx.field(static=True)

    @classmethod
    def empty(cls, like: Entries, batches: int) -> "Archive[Entries]":
        """An archive without entries.

        Args:
            like: One batch, or its shapes and dtypes.
            batches: How many such batches the archive can hold.

        Returns:
            The archive. Its capacity is `batches` times the batch's first axis.
        """
        entries = jax.tree.map(
            lambda leaf: jnp.zeros(
                (batches * leaf.shape[0], *leaf.shape[1:]), leaf.dtype
            ),
            like,
        )
        size = jax.tree.leaves(like)[0].shape[0]
        return cls(entries, jnp.zeros((), jnp.int32), size)

    @property
    def capacity(self) -> int:
        """How many entries the archive can hold."""
        return jax.tree.leaves(self.entries)[0].shape[0]

    @property
    def filled(self) -> Bool[Array, " capacity"]:
        """Which places hold an entry."""
        return jnp.arange(self.capacity) < self.added

    def add(self, batch: Entries) -> "Archive[Entries]":
        """Adds one batch, over the oldest one where the archive is full.

        Args:
            batch: Entries of the form that the archive was made for.

        Returns:
            The archive with the batch in it.

        Raises:
            ValueError: If there are more or fewer entries than in the batch that the
                archive was made for.
        """
        size = jax.tree.leaves(batch)[0].shape[0]
        if size != self.batch:
            raise ValueError(
                f"This archive takes batches of {self.batch} entries; got {size}."
            )
        at = self.added % self.capacity
        entries = jax.tree.map(
            lambda all_, new: jax.lax.dynamic_update_slice_in_dim(all_, new, at, 0),
            self.entries,
            batch,
        )
        added = self.added + size
        added = jnp.where(added >= 2 * self.capacity, added - self.capacity, added)
        return Archive(entries, added, self.batch)

    def sample(self, count: int, *, key: PRNGKeyArray) -> Entries:
        """Draws entries uniformly, without replacement as long as there are any left.

        Args:
            count: How many. Where fewer are in the archive, all of them are drawn in
                turn, again and again; there must be one at least.
            key: Source of randomness.

        Returns:
            The drawn entries, stacked.
        """
        there = jnp.clip(self.added, 1, self.capacity)
        if self.capacity > _SHUFFLED:
            chosen = _one_of_each_part(there, count, key=key)
        else:
            order = jnp.where(self.filled, jr.uniform(key, (self.capacity,)), -1.0)
            _, shuffled = jax.lax.top_k(order, min(count, self.capacity))
            chosen = shuffled[jnp.arange(count) % there]
        return jax.tree.map(lambda leaf: leaf[chosen], self.entries)

    def sample_recent(
        self, count: int, *, exponent: float, key: PRNGKeyArray
    ) -> Entries:
        """Draws entries with replacement, those of recent batches more often.

        Source: Faccio et al. (2022), who draw the k-th last episode in proportion to
        1 / k^1.1. Their batches are single episodes; entries of one batch are equally
        recent here.

        Args:
            count: How many. There must be one entry in the archive at least.
            exponent: An entry of the k-th last batch is drawn in proportion to
                1 / k^exponent; with 0 all are drawn equally often.
            key: Source of randomness.

        Returns:
            The drawn entries, stacked.
        """
        batches = self.capacity // self.batch
        newest = self.added // self.batch - 1
        batch_key, entry_key = jr.split(key)
        age = jnp.arange(1, batches + 1)
        weights = age.astype(jnp.float32) ** -exponent
        up_to = jnp.cumsum(jnp.where(age <= self.added // self.batch, weights, 0.0))
        drawn = jr.uniform(batch_key, (count,), maxval=up_to[-1])
        # By rounding, a number drawn may be the sum of all weights.
        back = jnp.minimum(
            jnp.searchsorted(up_to, drawn, side="right"), self.added // self.batch - 1
        )
        place = (newest - back) % batches * self.batch
        chosen = place + jr.randint(entry_key, (count,), 0, self.batch)
        return jax.tree.map(lambda leaf: leaf[chosen], self.entries)


def _one_of_each_part(
    there: Int[Array, ""], count: int, *, key: PRNGKeyArray
) -> Int[Array, " count"]:
    """Draws different numbers below `there`; all of them in turn where it is less.

    One number is drawn from each of so many equal parts, which begin anywhere: each
    number is drawn equally often.
    """
    turn_key, own_key = jr.split(key)
    parts = jnp.minimum(there, count)
    part = jnp.arange(count) % parts
    size, left = there // parts, there % parts
    # The first ones are longer by one, where the numbers cannot be shared out.
    begin = part * size + jnp.minimum(part, left)
    longer = (part < left).astype(size.dtype)
    inside = jr.randint(own_key, (count,), 0, size + longer)
    turn = jr.randint(turn_key, (), 0, there)
    return (begin + inside + turn) % there

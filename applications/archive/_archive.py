from typing import final, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Int, PRNGKeyArray


Entries = TypeVar("Entries")


@final
class Archive(eqx.Module, Generic[Entries]):
    """A ring buffer that takes whole batches and forgets the oldest.

    Attributes:
        entries: Any pytree of arrays with the capacity as first axis.
        added: How many entries were ever added.
    """

    entries: Entries
    added: Int[Array, ""]

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
        return cls(entries, jnp.zeros((), jnp.int32))

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
            batch: Entries of the form that the archive was made for; their number must
                divide the capacity.

        Returns:
            The archive with the batch in it.

        Raises:
            ValueError: If the number of entries does not divide the capacity.
        """
        size = jax.tree.leaves(batch)[0].shape[0]
        if self.capacity % size != 0:
            raise ValueError(
                f"A batch of {size} entries does not divide the capacity "
                f"{self.capacity}."
            )
        # Counting stops below the overflow of int32, at the same place of the ring.
        at = self.added % self.capacity
        entries = jax.tree.map(
            lambda all_, new: jax.lax.dynamic_update_slice_in_dim(all_, new, at, 0),
            self.entries,
            batch,
        )
        added = self.added + size
        added = jnp.where(added >= 2 * self.capacity, added - self.capacity, added)
        return Archive(entries, added)

    def sample(self, count: int, *, key: PRNGKeyArray) -> Entries:
        """Draws entries uniformly, without replacement.

        Args:
            count: How many; at least that many must have been added.
            key: Source of randomness.

        Returns:
            The drawn entries, stacked.

        Raises:
            ValueError: If the archive cannot hold that many.
        """
        if count > self.capacity:
            raise ValueError(
                f"Cannot draw {count} of at most {self.capacity} entries without "
                "replacement."
            )
        if count == self.capacity:
            return self.entries
        order = jnp.where(self.filled, jr.uniform(key, (self.capacity,)), -1.0)
        _, chosen = jax.lax.top_k(order, count)
        return jax.tree.map(lambda leaf: leaf[chosen], self.entries)

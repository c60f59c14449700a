import abc
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray


Network = TypeVar("Network")
MakeTarget: TypeAlias = Callable[[PRNGKeyArray], Network]


class AbstractGenerator(eqx.Module, Generic[Network]):
    """Writes the weights of a network, given a context.

    The context is a vector: a command, a task's description, an embedding. What comes
    back is a whole network, to be called as any other. Batches of contexts go through
    `eqx.filter_vmap(generator)`, and the networks that it gives, stacked leaf by leaf,
    through `eqx.filter_vmap(lambda network, x: network(x))`.

    Attributes:
        context_size: Length of the context.
    """

    context_size: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(
        self, context: Float[Array, " context"], *, key: PRNGKeyArray | None = None
    ) -> Network:
        """Writes one network.

        Args:
            context: What the network is to be made for, `context_size` numbers.
            key: Source of randomness. Generators that have no use for it ignore it.

        Returns:
            The network. The same generator, context and key give the same one.
        """

import math
from typing import final, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import ActionSpace, Continuous
from applications.policies._mlp import MLPPolicy
from applications.policies._policy import AbstractPolicy


class Drawn(NamedTuple):
    """What a stochastic policy records beside its output.

    Attributes:
        drawn: What was drawn: of continuous actions before tanh, of discrete ones 1 for
            the action and 0 for the others.
        log_prob: Logarithm of its density or probability.
    """

    drawn: Float[Array, "*batch outputs"]
    log_prob: Float[Array, "*batch"]


@final
class StochasticPolicy(AbstractPolicy):
    """A distribution over actions, given by a perceptron.

    Continuous actions are squashed: u is normal with the perceptron's last layer as its
    mean and a deviation that does not depend on the state, and the action is tanh(u) in
    units of the box. Densities are of u, since the Jacobian of tanh is the same for all
    policies and cancels in their ratios. Discrete actions are categorical, with the
    perceptron's outputs as logits.

    Source: the form of the stochastic actor in the code of Faccio et al. (2021), where
    it is not used; there too the deviation is a part of the weights.

    Attributes:
        mean: The perceptron, which is also the policy without noise.
        log_std: Logarithm of the deviation of each number of a continuous action.
    """

    mean: MLPPolicy
    log_std: Float[Array, " deviations"]

    def __init__(self, mean: MLPPolicy, log_std: Float[Array, " deviations"]):
        """Makes the policy.

        Args:
            mean: The perceptron; bounded by tanh where actions are continuous.
            log_std: Logarithm of the deviation of each number of a continuous action;
                nothing where actions are discrete.
        """
        self.mean = mean
        self.log_std = log_std

    @classmethod
    def around(cls, mean: MLPPolicy, std: float) -> "StochasticPolicy":
        """Makes a policy with the same deviation in all directions.

        Args:
            mean: The perceptron; bounded by tanh where actions are continuous.
            std: The deviation, before tanh.

        Returns:
            The policy.
        """
        space = mean.action_space
        size = space.output_size if isinstance(space, Continuous) else 0
        dtype = mean.layers[0].weight.dtype
        return cls(mean, jnp.full(size, math.log(std), dtype))

    @property
    def action_space(self) -> ActionSpace:
        """The perceptron's."""
        return self.mean.action_space

    def __call__(
        self,
        observation: Float[Array, " observation"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, " outputs"] | tuple[Float[Array, " outputs"], Drawn]:
        """Draws an action.

        Args:
            observation: What the task shows.
            key: Source of randomness.

        Returns:
            With a key the output, from which the action is selected, and what was
            drawn; without one the perceptron's output.
        """
        if key is None:
            return self.mean(observation)
        drawn = self.draw(observation, key=key)
        return self.output(drawn), Drawn(drawn, self.log_prob(observation, drawn))

    def draw(
        self, observation: Float[Array, " observation"], *, key: PRNGKeyArray
    ) -> Float[Array, " outputs"]:
        """Draws what an action is made of; of continuous ones with a gradient.

        Args:
            observation: What the task shows.
            key: Source of randomness.

        Returns:
            As of `Drawn`.
        """
        x = self.mean.unbounded(observation)
        if isinstance(self.action_space, Continuous):
            return x + jnp.exp(self.log_std) * jr.normal(key, x.shape, x.dtype)
        return jax.nn.one_hot(jr.categorical(key, x), x.size, dtype=x.dtype)

    def output(self, drawn: Float[Array, " outputs"]) -> Float[Array, " outputs"]:
        """The output that was drawn.

        Args:
            drawn: As of `Drawn`.

        Returns:
            The action, or the vector from which the discrete one is selected.
        """
        return self.mean.bounded(drawn)

    def log_prob(
        self,
        observation: Float[Array, " observation"],
        drawn: Float[Array, " outputs"],
    ) -> Float[Array, ""]:
        """Logarithm of the density, before tanh, or of the probability.

        Args:
            observation: What the task shows.
            drawn: As of `Drawn`.

        Returns:
            The sum over the numbers of a continuous action, which are independent.
        """
        x = self.mean.unbounded(observation)
        if not isinstance(self.action_space, Continuous):
            return jnp.sum(drawn * jax.nn.log_softmax(x))
        z = (drawn - x) * jnp.exp(-self.log_std)
        constant = math.log(2 * math.pi) / 2
        return jnp.sum(-jnp.square(z) / 2 - self.log_std - constant)

    def fold_standardisation(
        self, mean: Float[Array, " observation"], std: Float[Array, " observation"]
    ) -> "StochasticPolicy":
        """As of `AbstractPolicy`: that of the perceptron."""
        return StochasticPolicy(self.mean.fold_standardisation(mean, std), self.log_std)

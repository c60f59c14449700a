import abc
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from applications.envs import ActionSpace
from applications.policies._statistics import RunningStatistics


Policy = TypeVar("Policy", bound="AbstractPolicy")


class AbstractPolicy(eqx.Module):
    """A function from observations to outputs, from which actions are selected.

    Its arrays are its weights. They must all be of one floating-point dtype.

    Attributes:
        action_space: The kind of action; its `select` makes an action of an output.
    """

    action_space: eqx.AbstractVar[ActionSpace]

    @abc.abstractmethod
    def __call__(
        self,
        observation: Float[Array, " observation"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Any:
        """Computes the output for one observation.

        Args:
            observation: What the task shows.
            key: Source of randomness, another one at every control step. Deterministic
                policies ignore it. Stochastic ones do without noise where it is None:
                in pictures, probes and other libraries' environments.

        Returns:
            The output, a vector of `action_space.output_size` numbers. A policy that is
            given a key may return a pair `(output, extras)`, with any pytree of arrays
            that is to be recorded in transitions, such as a log-probability.
        """

    @abc.abstractmethod
    def fold_standardisation(
        self: Policy,
        mean: Float[Array, " observation"],
        std: Float[Array, " observation"],
    ) -> Policy:
        """Makes the policy for raw observations of one for standardised ones.

        Args:
            mean: Mean of the raw observations.
            std: Their standard deviation, positive.

        Returns:
            A policy of the same architecture, whose output for `x` is this policy's
            for `(x - mean) / std`.
        """


def act(
    policy: Any, observation: Float[Array, " observation"], *, key: PRNGKeyArray
) -> tuple[Float[Array, " outputs"], PyTree[Array]]:
    """Computes a policy's output and what is to be recorded beside it.

    Args:
        policy: An `AbstractPolicy`, or anything that is called like one.
        observation: What the task shows.
        key: Source of randomness.

    Returns:
        The output and the extras, which are empty unless the policy has some.
    """
    answer = policy(observation, key=key)
    return answer if isinstance(answer, tuple) else (answer, ())


def select_action(
    policy: Any, action_space: ActionSpace, output: Float[Array, " outputs"]
) -> Array:
    """The action that a policy's output stands for.

    Args:
        policy: An `AbstractPolicy`, or anything that is called like one.
        action_space: What actions are, of policies that do not say so themselves.
        output: What it put out.

    Returns:
        The action.
    """
    return getattr(policy, "action_space", action_space).select(output)


def standardised(policy: Policy, statistics: RunningStatistics) -> Policy:
    """Makes the policy for raw observations of one for standardised ones.

    Args:
        policy: A policy for observations of mean 0 and variance 1.
        statistics: Those of the raw observations. With fewer than two of them the
            policy stays as it is.

    Returns:
        The policy for raw observations, of the same architecture.
    """
    return policy.fold_standardisation(*_mean_and_std(statistics))


def unstandardised(policy: Policy, statistics: RunningStatistics) -> Policy:
    """Undoes `standardised`.

    Args:
        policy: A policy for raw observations.
        statistics: Statistics of the raw observations.

    Returns:
        The policy of the same architecture that does the same when it is shown
        standardised observations.
    """
    mean, std = _mean_and_std(statistics)
    # Raw observations are standardised ones, standardised by what undoes it.
    return policy.fold_standardisation(-mean / std, 1 / std)


def standardise(
    observations: Float[Array, "*batch observation"], statistics: RunningStatistics
) -> Float[Array, "*batch observation"]:
    """Standardises observations as `standardised` does inside a policy.

    Args:
        observations: Raw observations.
        statistics: Their statistics.

    Returns:
        The observations, with mean 0 and variance 1 over those of the statistics.
    """
    mean, std = _mean_and_std(statistics)
    shape = (1,) * (observations.ndim - 1) + mean.shape
    return (observations - mean.reshape(shape)) / std.reshape(shape)


def _mean_and_std(statistics: RunningStatistics) -> tuple[Array, Array]:
    """Mean and deviation; 0 and 1 of fewer than two vectors."""
    enough = statistics.count > 1
    std = jnp.where(enough, statistics.std, 1.0)
    return jnp.where(enough, statistics.mean, 0.0), std

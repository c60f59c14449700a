from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, PyTree

from applications.envs import ActionSpace
from applications.policies import act, select_action
from applications.rollout._population import (
    axes_of,
    SharedPopulation,
    take_policies,
)
from applications.rollout.engine import MakePolicy, Population
from applications.rollout.episode import step_key
from applications.rollout.transitions import Decision


@final
class PolicyRows(eqx.Module):
    """Policies of one form, whose arrays go from one compiled function to the next.

    Vectors are cut up once an episode: at every step, that would cost more than to act.
    Policies that share arrays are put together at every step, so that what they share
    is never copied.

    Attributes:
        action_space: What actions are, unless policies say so themselves.
        make_policy: From weights to a policy.
        rest: What of a policy is no array, and so the same for all.
    """

    action_space: ActionSpace = eqx.field(static=True)
    make_policy: MakePolicy
    rest: PyTree

    def __init__(self, action_space: ActionSpace, make_policy: MakePolicy, like: Any):
        """Finds the form.

        Args:
            action_space: What actions are.
            make_policy: From weights to a policy.
            like: A population, for its form.
        """
        self.action_space = action_space
        self.make_policy = make_policy
        row = lambda like: take_policies(like, jnp.zeros((), jnp.int32))
        form = eqx.filter_eval_shape(lambda like: make_policy(row(like)), like)
        is_form = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
        self.rest = eqx.filter(form, is_form, inverse=True)

    def policies(
        self, population: Population, rows: Int[Array, " rows"]
    ) -> PyTree[Array]:
        """Arrays of the policies in some rows of a population."""
        if isinstance(population, SharedPopulation):
            return take_policies(population, rows)

        def of_one(row: Array) -> PyTree[Array]:
            weights = take_policies(population, row)
            return eqx.filter(self.make_policy(weights), eqx.is_array)

        return jax.vmap(of_one)(rows)

    def act_one(
        self,
        policy: PyTree[Array],
        key: PRNGKeyArray,
        length: Int[Array, ""],
        observation: Float[Array, " observation"],
    ) -> Decision:
        """What one policy does.

        Args:
            policy: Its arrays.
            key: The episode's key.
            length: Control steps before this one.
            observation: What it sees.

        Returns:
            The decision.
        """
        if isinstance(policy, SharedPopulation):
            whole: Any = self.make_policy(policy)
        else:
            whole = eqx.combine(policy, self.rest)
        output, extras = act(whole, observation, key=step_key(key, length))
        action = select_action(whole, self.action_space, output)
        return Decision(observation, output, action, extras)

    def act(
        self,
        policies: PyTree[Array],
        keys: Key[Array, " rows"],
        lengths: Int[Array, " rows"],
        observations: Float[Array, "rows observation"],
    ) -> Decision:
        """What policies do, one a row."""
        axes = (axes_of(policies), 0, 0, 0)
        return jax.vmap(self.act_one, axes)(policies, keys, lengths, observations)

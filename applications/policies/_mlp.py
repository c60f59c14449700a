import dataclasses
from typing import Any, final, get_args, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment, ActionSpace, Continuous
from applications.policies._low_rank import fold_linear, LowRankLinear, Perturbation
from applications.policies._policy import AbstractPolicy


Activation: TypeAlias = Literal["tanh", "relu", "swish"]
Bound: TypeAlias = Literal["tanh", "clip"]


@final
class MLPPolicy(AbstractPolicy):
    """A deterministic multilayer perceptron from observations to actions.

    Hidden units are tanh, unless it holds another library's policy. For continuous
    actions the output is squashed by tanh into the action box, as in Faccio et al.
    (2021), or clipped to it; for discrete ones it holds a preference for each action,
    of which the largest is taken. With `levels`, actions are rounded, but not the
    outputs that they are selected from: those keep a gradient, for critics to follow.

    Attributes:
        layers: The linear layers; of a `perturbed` policy, some that others share.
        action_space: The kind of action, with the policy's own levels.
        activation: What hidden units are.
        bound: What brings the last layer's output into the action box: `tanh`, of
            which -1 and 1 are its ends, or `clip`, of a layer in units of actions.
    """

    layers: tuple[Any, ...]
    action_space: ActionSpace = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    bound: Bound = eqx.field(static=True)

    def __init__(
        self,
        task: AbstractEnvironment,
        hidden: tuple[int, ...],
        *,
        activation: Activation = "tanh",
        bound: Bound = "tanh",
        levels: int | None = None,
        key: PRNGKeyArray,
    ):
        """Draws a policy for a task.

        Args:
            task: What it will act in.
            hidden: Width of each hidden layer; none gives a linear policy.
            activation: What hidden units are.
            bound: What brings outputs into the action box.
            levels: How many values a number of a continuous action can have, evenly
                from end to end of the box; any between them unless given.
            key: Source of randomness.

        Raises:
            ValueError: If there is no such activation or bound, or levels cannot be
                had: fewer than 2, or of discrete actions.
        """
        for kind, name, names in (
            ("activation", activation, get_args(Activation)),
            ("bound", bound, get_args(Bound)),
        ):
            if name not in names:
                raise ValueError(
                    f"There is no {kind} {name!r}; there are {', '.join(names)}."
                )
        sizes = (task.observation_size, *hidden, task.action_space.output_size)
        keys = jr.split(key, len(sizes) - 1)
        self.layers = tuple(
            eqx.nn.Linear(fan_in, fan_out, key=layer_key)
            for fan_in, fan_out, layer_key in zip(
                sizes[:-1], sizes[1:], keys, strict=True
            )
        )
        self.action_space = _with_levels(task.action_space, levels)
        self.activation = activation
        self.bound = bound

    def resized(self, hidden: tuple[int, ...]) -> "MLPPolicy":
        """The policy with more hidden units, which do nothing, or with fewer.

        Args:
            hidden: Width of each hidden layer.

        Returns:
            A policy of these widths. Weights to and from new units are 0, so that it
            does the same, and making it as narrow as before gives the policy back;
            units beyond the new width are lost.
        """
        own_layers: Any = self.layers
        sizes = (own_layers[0].in_features, *hidden, own_layers[-1].out_features)
        layers = []
        for layer, fan_in, fan_out in zip(
            own_layers, sizes[:-1], sizes[1:], strict=True
        ):
            like: Any = eqx.nn.Linear(fan_in, fan_out, key=jr.key(0))
            weight = _fitted(layer.weight, like.weight.shape)
            bias = _fitted(layer.bias, like.bias.shape)
            where = lambda layer: (layer.weight, layer.bias)
            layers.append(eqx.tree_at(where, like, (weight, bias)))
        return eqx.tree_at(lambda policy: policy.layers, self, tuple(layers))

    def limited(self, units: int | Float[Array, ""]) -> "MLPPolicy":
        """The policy with only the first hidden units in use, and the same form.

        Args:
            units: How many units of each hidden layer, from 1 on; may be traced. Layers
                that have fewer keep them all.

        Returns:
            A policy whose weights and biases to and from other hidden units are 0. It
            does the same as the policy that `resized` makes that narrow.
        """

        def used(size: int) -> Array:
            return jnp.arange(size, dtype=jnp.float32) < jnp.float32(units)

        layers, last = [], len(self.layers) - 1
        own_layers: Any = self.layers
        for i, layer in enumerate(own_layers):
            weight, bias = layer.weight, layer.bias
            if i > 0:
                weight = jnp.where(used(weight.shape[1])[None], weight, 0.0)
            if i < last:
                weight = jnp.where(used(len(bias))[:, None], weight, 0.0)
                bias = jnp.where(used(len(bias)), bias, 0.0)
            where = lambda layer: (layer.weight, layer.bias)
            layers.append(eqx.tree_at(where, layer, (weight, bias)))
        return self._with_layers(tuple(layers))

    def __call__(
        self,
        observation: Float[Array, " observation"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, " outputs"]:
        """The policy's output for one observation.

        Args:
            observation: What the task shows.
            key: Ignored; the policy is deterministic.

        Returns:
            An action inside the box, or one preference for each discrete action;
            `action_space.select` makes the action of it.
        """
        return self.bounded(self.unbounded(observation))

    def unbounded(
        self, observation: Float[Array, " observation"]
    ) -> Float[Array, " outputs"]:
        """What the last layer gives, before it is brought into the action box.

        Args:
            observation: What the task shows.

        Returns:
            One number for each of the output.
        """
        x = observation
        activation = getattr(jax.nn, self.activation)
        for layer in self.layers[:-1]:
            x = activation(layer(x))
        return self.layers[-1](x)

    def bounded(self, x: Float[Array, " outputs"]) -> Float[Array, " outputs"]:
        """Brings what the last layer gives into the action box, if there is one.

        Args:
            x: From `unbounded`, or what is drawn around it.

        Returns:
            The policy's output.
        """
        if isinstance(self.action_space, Continuous) and self.bound == "clip":
            x = self.action_space.clip(x)
        elif isinstance(self.action_space, Continuous):
            low = jnp.asarray(self.action_space.low, x.dtype)
            high = jnp.asarray(self.action_space.high, x.dtype)
            x = (low + high) / 2 + (high - low) / 2 * jnp.tanh(x)
        return x

    def fold_standardisation(
        self, mean: Float[Array, " observation"], std: Float[Array, " observation"]
    ) -> "MLPPolicy":
        """Makes the policy for raw observations of one for standardised ones.

        Mean and deviation go into the first layer, so that acting costs nothing more.

        Args:
            mean: Mean of the raw observations.
            std: Their standard deviation, positive.

        Returns:
            The policy whose output for `x` is this one's for `(x - mean) / std`.
        """
        layer = self.layers[0]
        if isinstance(layer, LowRankLinear):
            first: Any = layer.fold_standardisation(mean, std)
        else:
            first = fold_linear(layer, mean, std)
        return self._with_layers((first, *self.layers[1:]))

    def perturbed(self, perturbation: Perturbation) -> "MLPPolicy":
        """The policy with a perturbation of low rank, which is kept beside its weights.

        Args:
            perturbation: Factors of each layer.

        Returns:
            A policy whose layers share this one's weights; `whole` adds them up.

        Raises:
            ValueError: If there are not as many factors as layers, or the policy is
                perturbed already.
        """
        if len(perturbation) != len(self.layers):
            raise ValueError(
                f"{len(perturbation)} factors are not of {len(self.layers)} layers."
            )
        layers = []
        for layer, own in zip(self.layers, perturbation, strict=True):
            if isinstance(layer, LowRankLinear):
                raise ValueError("The policy is perturbed already; take its `whole`.")
            layers.append(LowRankLinear(layer, own))
        return self._with_layers(tuple(layers))

    @property
    def whole(self) -> "MLPPolicy":
        """The same policy with all weights of its own, as a vector has them."""
        layers = [
            layer.whole if isinstance(layer, LowRankLinear) else layer
            for layer in self.layers
        ]
        return self._with_layers(tuple(layers))

    def _with_layers(
        self, layers: tuple[eqx.nn.Linear | LowRankLinear, ...]
    ) -> "MLPPolicy":
        return eqx.tree_at(lambda policy: policy.layers, self, layers)


def _with_levels(space: ActionSpace, levels: int | None) -> ActionSpace:
    if levels is None:
        return space
    if not isinstance(space, Continuous):
        raise ValueError("Levels are of continuous actions; this task's are discrete.")
    return dataclasses.replace(space, levels=levels)


def _fitted(x: Array, shape: tuple[int, ...]) -> Array:
    """What of an array fits into a shape, with zeros where it ends before."""
    kept = x[tuple(slice(size) for size in shape)]
    more = [(0, size - own) for size, own in zip(shape, kept.shape, strict=True)]
    # Zeros that are overwritten would do it too; if none is left, jaxlib 0.11.2 crashes
    # when it compiles that for several devices.
    return jnp.pad(kept, more)

"""Encoders of policies by name: what a critic reads of them."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from applications.envs import AbstractEnvironment
from applications.settings import call_factory, is_outside, UserError
from applications.values._inputs import (
    bounded_answer,
    identity,
    InputScale,
    observed_states,
    scaled_features,
    scaled_weights,
)
from wsl import infer_weight_space, WeightSpace
from wsl.encoders import (
    AbstractEncoder,
    Concatenated,
    Equivariant,
    Flat,
    ForwardGraph,
    GeneratedProbing,
    Graph,
    InteractiveProbing,
    Probing,
    ScaleEquivariantGraph,
    Statistics,
    Transformer,
)
from wsl.nn import ScaleSymmetry


# A name of the list or `package.module:Factory`; or several, with a plus between.
Representation: TypeAlias = str

REPRESENTATIONS = (
    "flat",
    "statistics",
    "equivariant",
    "transformer",
    "graph",
    "scale-graph",
    "forward-graph",
    "probing",
    "generated-probing",
    "interactive-probing",
    "answers",
)


def parts_of(representation: Representation) -> tuple[str, ...]:
    """The names that a representation is made of."""
    return tuple(representation.split("+"))


def check_representation(name: Representation, *, observes: bool = False) -> None:
    """Refuses a name that no representation has.

    Args:
        name: A name of `REPRESENTATIONS`, or `package.module:Factory`, which is not
            imported here; or several of them, with a plus between.
        observes: Whether there are observed states, which `answers` needs.

    Raises:
        UserError: With the names that there are.
    """
    known = [x for x in REPRESENTATIONS if observes or x != "answers"]
    for part in parts_of(name):
        if part not in known and not is_outside(part):
            raise UserError(
                f"There is no representation {part!r}; there are {', '.join(known)}, "
                "and package.module:Factory of your own. Several are put together by "
                "a plus: flat+probing."
            )


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
    """Sizes of encoders; each looks at those it has a use for.

    Attributes:
        features: Length of the vector of those that read weights.
        channels: Channels of their states.
        layers: How many layers or rounds they have.
        probes: How many states the policy is shown.
        rounds: In how many rounds, where probes depend on answers.
        probe_scale: Standard deviation of the states at the start.
        states: How many observed states the policy is shown.
        inputs: What weights and answers are standardised by.
        bounded: Whether answers of policies with discrete actions are probabilities.
    """

    features: int = 64
    channels: int = 8
    layers: int = 2
    probes: int = 16
    rounds: int = 4
    probe_scale: float = 1.0
    states: int = 96
    inputs: InputScale = "raw"
    bounded: bool = False


def make_encoder(
    name: Representation,
    task: AbstractEnvironment,
    policy: PyTree,
    options: EncoderOptions,
    *,
    key: PRNGKeyArray,
) -> AbstractEncoder:
    """Draws an encoder of policies.

    Args:
        name: A name of `REPRESENTATIONS`, or `package.module:Factory`. Such a factory
            is called as `factory(task, policy, key=key)` and returns an
            `AbstractEncoder`. Or several of these, with a plus between.
        task: What the policies act in.
        policy: One of them.
        options: Sizes.
        key: Source of randomness.

    Returns:
        The encoder.

    Raises:
        UserError: If there is no such representation, it does not fit the policy, or
            the probes cannot be shared out among the rounds.
    """
    check_representation(name, observes=True)
    if len(parts := parts_of(name)) > 1:
        keys = jax.random.split(key, len(parts))
        return Concatenated(
            *[
                make_encoder(part, task, policy, options, key=own_key)
                for part, own_key in zip(parts, keys, strict=True)
            ]
        )
    if is_outside(name):
        encoder = call_factory(name, task, policy, key=key)
        if not isinstance(encoder, AbstractEncoder):
            raise UserError(
                f"{name} gave a {type(encoder).__name__}, which is no "
                "wsl.encoders.AbstractEncoder."
            )
        return encoder
    seen, acts = task.observation_size, task.action_space.output_size
    asked: dict[str, Any] = {
        "initializer": jax.nn.initializers.normal(options.probe_scale),
        "map_answer": bounded_answer(task) if options.bounded else identity,
        "key": key,
    }
    sizes: dict[str, Any] = {"channels": options.channels, "key": key}

    def space() -> WeightSpace:
        return infer_weight_space(policy, jnp.zeros(seen))

    def symmetry() -> ScaleSymmetry:
        # Tanh is odd: hidden units may change their sign.
        if getattr(policy, "activation", None) != "tanh":
            raise UserError(
                f"The representation {name} is for policies with hidden units of tanh."
            )
        return ScaleSymmetry.from_space(space(), "sign")

    def in_layers(kind: Callable[..., AbstractEncoder]) -> AbstractEncoder:
        return kind(space(), options.features, num_layers=options.layers, **sizes)

    def asking(kind: Callable[..., AbstractEncoder]) -> AbstractEncoder:
        return kind(seen, acts, options.probes, **asked)

    def interactive() -> AbstractEncoder:
        each, left = divmod(options.probes, options.rounds)
        if left:
            raise UserError(
                f"{options.probes} probes cannot be shared out among "
                f"{options.rounds} rounds."
            )
        return InteractiveProbing(seen, acts, options.rounds, each, **asked)

    kinds: dict[str, Callable[[], AbstractEncoder]] = {
        "flat": lambda: Flat(WeightSpace.from_spec(policy)),
        "statistics": lambda: Statistics(WeightSpace.from_spec(policy)),
        "equivariant": lambda: in_layers(Equivariant),
        "transformer": lambda: in_layers(Transformer),
        "graph": lambda: in_layers(Graph),
        "scale-graph": lambda: ScaleEquivariantGraph(
            symmetry(),
            options.features,
            num_layers=options.layers,
            bidirectional=False,
            **sizes,
        ),
        "forward-graph": lambda: ForwardGraph(
            symmetry(), options.features, activation=jnp.tanh, **sizes
        ),
        "probing": lambda: asking(Probing),
        "generated-probing": lambda: asking(GeneratedProbing),
        "interactive-probing": interactive,
        "answers": lambda: observed_states(task, options.states, asked["map_answer"]),
    }
    encoder = kinds[name]()
    if "probing" in name or name == "answers":
        return scaled_features(encoder, options.inputs)
    return scaled_weights(encoder, options.inputs, policy)

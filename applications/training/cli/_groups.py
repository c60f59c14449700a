"""How the help of a command groups its flags, and what it says of each."""

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from applications.settings import flag


# What a first run is likely to change, in the order of the help.
_FIRST = (
    *("env", "iterations", "steps", "num_envs", "representation", "hidden"),
    *("seed", "seeds", "run_dir", "resume"),
)
# What is said of them there, if the whole help is long; that stands in their group.
_SHORT = {
    "env": "Task to learn; which there are is said below.",
    "representation": "What the critic reads of a policy; more below.",
    "steps": "Control steps of the whole run.",
    "iterations": "Iterations of the whole run.",
    "num_envs": "Policies or environments that are tried at once.",
    "hidden": "Widths of the policy's hidden layers.",
}
# Settings of algorithms by what they are about; one that is in no group is in that of
# its algorithm.
GROUPS = {
    "policy": (
        *("policy", "policy_kind", "hidden", "sizes", "start", "policies"),
        *("policy_std", "action_levels", "normalise", "average"),
    ),
    "perturbation": (
        *("noise_scale", "noise_unit", "noise_schedule", "noise_end", "noise_until"),
        *("noise", "noise_shape", "noise_adaptation", "antithetic", "perturbation"),
        *("rank", "action_noise", "theta_noise", "redraw"),
    ),
    "episode": ("episodes", "eval_episodes", "common_starts", "chunk"),
    "value": (
        *("representation", "critic", "inputs", "targets", "bounded_answers"),
        *("num_states", "state_iterations", "start_states"),
        *("kernel_points", "kernel_scale", "kernel_noise"),
        *("critic_width", "critic_depth", "critic_norm", "critic_lr"),
        *("critic_updates", "critic_start", "ensemble", "ensemble_value"),
        *("num_probes", "probe_rounds", "probe_scale"),
        *("encoder_features", "encoder_channels", "encoder_layers"),
        *("archive", "batch_size"),
    ),
    "improvement": (
        *("step", "direction", "trust_radius", "trust_schedule", "step_limit"),
        *("optimism", "largest_deviation", "policy_lr", "policy_lr_schedule"),
        *("policy_updates", "policy_delay", "policy_states", "clip", "weight_clip"),
    ),
}
_TITLES = {
    "common": "The flags that matter most. All others follow in groups.",
    "policy": "What policies are.",
    "perturbation": "How the policies that are tried differ.",
    "episode": "How policies are tried.",
    "value": "What the value function is, and how it is fitted.",
    "improvement": "How the policy is made better by it.",
}


@dataclasses.dataclass(frozen=True)
class Flag:
    """A setting that a command can be given.

    Attributes:
        name: The name of its field.
        kind: What it may be.
        default: What it is unless given.
        help: What the field's docstring says.
    """

    name: str
    kind: Any
    default: Any
    help: str


def make_groups(parts: dict[str, Any], first: Iterable[Flag]) -> dict[str, Any]:
    """Sorts settings into the groups of a command's help.

    Args:
        parts: Settings by the name of the part: frozen dataclasses.
        first: Flags that are no settings, which belong to the first group.

    Returns:
        By name of the group, a dataclass of flags, and an instance with its defaults.
    """
    extra = {one.name: one for one in first}
    members = {"common": [one for one in extra.values() if one.name not in _FIRST]}
    notes: dict[str, list[str]] = {}
    home = {name: group for group, names in GROUPS.items() for name in names}
    found = {one.name: (part, one) for part in parts for one in _flags(parts[part])}
    for name in _FIRST:
        if name in extra:
            members["common"].append(extra[name])
        if name not in found:
            continue
        part, one = found[name]
        members["common"].append(
            dataclasses.replace(one, help=_SHORT.get(name, one.help))
        )
        if name in ("env", "representation"):
            group = home.get(name, part) if part not in ("task", "launch") else part
            notes.setdefault(group, []).append(f"{flag(name)}: {one.help}")
    # The task, what all algorithms have in common, the algorithm's own, the launch.
    task, *own, launch = parts
    for group in (task, *GROUPS, *own, launch):
        members[group] = []
    for name, (part, one) in found.items():
        if name not in _FIRST:
            members[home.get(name, part) if part in own else part].append(one)
    return {
        group: _group(group, flags, parts.get(group), notes.get(group, []))
        for group, flags in members.items()
        if flags
    }


def _group(name: str, flags: list[Flag], part: Any, notes: list[str]) -> Any:
    # Slow to import.
    import tyro

    order = {own: i for i, own in enumerate(GROUPS.get(name, ()))}
    if order:
        flags = sorted(flags, key=lambda one: order[one.name])
    fields: list[Any] = [
        (
            one.name,
            typing.Annotated[
                one.kind, tyro.conf.arg(name=flag(one.name)[2:], help=one.help)
            ],
            dataclasses.field(default=one.default),
        )
        for one in flags
    ]
    kind: Any = dataclasses.make_dataclass(name, fields, frozen=True)
    title = _TITLES.get(name) or (inspect.getdoc(type(part)) or "").split("\n\n")[0]
    kind.__doc__ = "\n".join([" ".join(title.split()), *notes])
    return kind()


def _flags(part: Any) -> Iterator[Flag]:
    hints = typing.get_type_hints(type(part), include_extras=True)
    helps = _helps(type(part))
    for field in dataclasses.fields(part):
        name = field.name
        yield Flag(
            name, in_order(hints[name]), getattr(part, name), helps.get(name, "")
        )


def in_order(kind: Any) -> Any:
    """The same type; a choice that may be None is one choice more.

    The command line would print the members of a union in any order.
    """
    if typing.get_origin(kind) is typing.Annotated:
        inner, *marks = typing.get_args(kind)
        return typing.Annotated[in_order(inner), *marks]
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    members = typing.get_args(kind)
    choices = [x for x in members if typing.get_origin(x) is Literal]
    if len(choices) == 1 and set(members) == {choices[0], types.NoneType}:
        return Literal[(*typing.get_args(choices[0]), None)]
    return kind


@functools.cache
def _helps(kind: type) -> dict[str, str]:
    """What stands in quotes below each field of a class, or of one above it."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError):
            continue
        assert isinstance(node, ast.ClassDef)
        for field, below in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[field.target.id] = " ".join(below.value.value.split())
    return found

import importlib
from typing import Any

from jaxtyping import PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.policies._mlp import MLPPolicy
from applications.policies._policy import AbstractPolicy


def make_policy(
    name: str,
    task: AbstractEnvironment,
    hidden: tuple[int, ...],
    *,
    key: PRNGKeyArray,
) -> AbstractPolicy:
    """Draws a policy of a kind that has a name.

    Args:
        name: `mlp`, or a factory's place as `package.module:Factory`. The factory is
            called as `factory(task, hidden, key=key)`.
        task: What the policy will act in.
        hidden: Width of each hidden layer.
        key: Source of randomness.

    Returns:
        The policy.

    Raises:
        ValueError: If there is no such factory, or what it makes is no policy.
    """
    if name == "mlp":
        return MLPPolicy(task, hidden, key=key)
    policy = _factory(name)(task, hidden, key=key)
    if not isinstance(policy, AbstractPolicy):
        raise ValueError(
            f"{name} made {type(policy).__name__}; it must make a subclass of "
            "applications.policies.AbstractPolicy."
        )
    return policy


def _factory(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(
            f"There is no policy {name!r}; there are mlp and package.module:Factory."
        )
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"There is no policy {name}: {error}.") from error
    if not callable(factory):
        raise ValueError(f"{name} is {factory!r}; it must be callable.")
    return factory

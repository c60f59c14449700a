from jaxtyping import PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.policies._mlp import MLPPolicy
from applications.policies._policy import AbstractPolicy
from applications.settings import call_factory, is_outside, UserError


def make_policy(
    name: str,
    task: AbstractEnvironment,
    hidden: tuple[int, ...],
    *,
    levels: int | None = None,
    key: PRNGKeyArray,
) -> AbstractPolicy:
    """Draws a policy of a kind that has a name.

    Args:
        name: `mlp`, or a factory's place as `package.module:Factory`. The factory is
            called as `factory(task, hidden, key=key)`.
        task: What the policy will act in.
        hidden: Width of each hidden layer.
        levels: As of `MLPPolicy`; of perceptrons only.
        key: Source of randomness.

    Returns:
        The policy.

    Raises:
        UserError: If there is no such factory, what it makes is no policy, or there
            can be no levels.
    """
    check_policy(name, levels)
    if name == "mlp":
        try:
            return MLPPolicy(task, hidden, levels=levels, key=key)
        except ValueError as error:
            raise UserError(f"--action-levels {levels}: {error}") from error
    policy = call_factory(name, task, hidden, key=key)
    if not isinstance(policy, AbstractPolicy):
        raise UserError(
            f"{name} made {type(policy).__name__}; it must make a subclass of "
            "applications.policies.AbstractPolicy."
        )
    return policy


def check_policy(name: str, levels: int | None = None) -> None:
    """Refuses a name that no policy has, and levels where they are not for it.

    Args:
        name: `mlp`, or `package.module:Factory`, which is not imported here.
        levels: How many values a number of an action can have, if that is said.

    Raises:
        UserError: With the names that there are.
    """
    if name != "mlp" and not is_outside(name):
        raise UserError(
            f"There is no policy {name!r}; there are mlp, and package.module:Factory "
            "of your own."
        )
    if levels is not None and name != "mlp":
        raise UserError(
            "--action-levels are of perceptrons: drop it or --policy. A policy of your "
            "own has them in its action_space."
        )

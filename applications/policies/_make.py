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
        UserError: If there is no such factory, or what it makes is no policy.
    """
    check_policy(name)
    if name == "mlp":
        return MLPPolicy(task, hidden, key=key)
    policy = call_factory(name, task, hidden, key=key)
    if not isinstance(policy, AbstractPolicy):
        raise UserError(
            f"{name} made {type(policy).__name__}; it must make a subclass of "
            "applications.policies.AbstractPolicy."
        )
    return policy


def check_policy(name: str) -> None:
    """Refuses a name that no policy has.

    Args:
        name: `mlp`, or `package.module:Factory`, which is not imported here.

    Raises:
        UserError: With the names that there are.
    """
    if name != "mlp" and not is_outside(name):
        raise UserError(
            f"There is no policy {name!r}; there are mlp, and package.module:Factory "
            "of your own."
        )

"""What is asked of a rollout besides the policies."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class RolloutOptions:
    """How many episodes of each policy, and how they are run.

    Attributes:
        episodes: Episodes of each policy.
        chunk: How many policies are simulated at once, at most; bounds the memory. All
            of a device's own unless given; on a host engine, as many as suit it.
        visits: How many observations of each episode are handed back, at most.
        common_starts: Whether all policies start from the same states.
    """

    episodes: int = 1
    chunk: int | None = None
    visits: int = 0
    common_starts: bool = False

    def __post_init__(self):
        """Checks the numbers.

        Raises:
            ValueError: If one is too small.
        """
        at_least_1(episodes=self.episodes, chunk=self.chunk)
        if self.visits < 0:
            raise ValueError(f"visits is {self.visits}; it must be at least 0.")


def at_least_1(**numbers: int | None) -> None:
    """Raises ValueError if a number that is given is below 1."""
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}; it must be at least 1.")

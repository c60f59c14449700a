import dataclasses
from typing import final, Literal, TypeAlias

from applications.training.storage import Progress


Limit: TypeAlias = Literal["iterations", "steps"]


@final
@dataclasses.dataclass(frozen=True)
class StopRule:
    """When a run is done.

    Attributes:
        count: How many iterations, or control steps.
        limit: Which of them. The last iteration may go beyond the number of steps.
    """

    count: int
    limit: Limit = "iterations"

    def done(self, progress: Progress) -> int:
        """How many of them are done."""
        return getattr(progress, self.column)

    def reached(self, progress: Progress) -> bool:
        """Whether the run is done."""
        return self.done(progress) >= self.count

    @property
    def column(self) -> str:
        """Name of the metric that counts them."""
        return "iteration" if self.limit == "iterations" else "env_steps"

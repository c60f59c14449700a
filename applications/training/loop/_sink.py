from typing import Any, Protocol, runtime_checkable

from applications.training.storage import Progress, Row


@runtime_checkable
class Sink(Protocol):
    """Receives the rows of a run, beside `metrics.jsonl`; a context manager.

    It is opened before the first iteration, in the process that writes.
    """

    def __enter__(self) -> Any:
        """Opens it."""
        ...

    def __exit__(self, *exception: Any) -> Any:
        """Closes it."""
        ...

    def write(self, row: Row) -> None:
        """Receives a row.

        Args:
            row: Numbers by name, None where one is not finite.
        """
        ...


def make_row(
    progress: Progress,
    metrics: dict[str, Any],
    *,
    steps_per_second: float,
    compile_seconds: float | None,
) -> Row:
    """Builds a row of `metrics.jsonl`.

    Args:
        progress: How far the run is after the iteration.
        metrics: Metrics of the iteration.
        steps_per_second: Control steps of the iteration by its seconds.
        compile_seconds: Seconds of compilation before it; None if nobody knows.

    Returns:
        The row.
    """
    return {
        "iteration": progress.iteration,
        "env_steps": progress.env_steps,
        **metrics,
        "steps_per_second": steps_per_second,
        "compile_seconds": compile_seconds,
        "seconds": progress.seconds,
    }

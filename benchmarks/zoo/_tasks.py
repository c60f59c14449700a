"""What the encoders are asked for."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import scipy.stats
from jaxtyping import Float, Num

from wsl.nn import ScaleKind
from wsl.zoo import digits_inrs, digits_mlps, sine_inrs, Zoo


@dataclasses.dataclass(frozen=True)
class Task:
    """A zoo, and what is to be told of its networks.

    Attributes:
        make_zoo: The zoo.
        kind: Whether an encoder's vector is to give a class, numbers, a rank, or the
            weights of an edited network.
        labels: Names of the labels.
        units: What may be done to the hidden units beside permuting them.
        low: Lowest entry of an input of the networks.
        high: Highest entry.
        in_size: How many numbers an input has.
        out_size: How many numbers an answer has.
        metrics: Names of what is reported.
    """

    make_zoo: Callable[[], Zoo]
    kind: Literal["classification", "regression", "ranking", "editing"]
    labels: tuple[str, ...]
    units: ScaleKind
    low: float
    high: float
    in_size: int
    out_size: int
    metrics: tuple[str, ...]

    @property
    def higher_is_better(self) -> bool:
        """Whether the metrics are scores and not errors."""
        return self.kind in ("classification", "ranking")

    def labels_of(self, zoo: Zoo) -> Num[np.ndarray, "networks labels"]:
        """What is to be told of each network of a zoo."""
        return np.stack([zoo.labels[name] for name in self.labels], axis=1)


def _digits_inr(**settings: Any) -> Task:
    return Task(
        lambda: digits_inrs(**settings),
        "classification",
        ("digit",),
        "sign",
        *(-1.0, 1.0, 2, 1),
        ("accuracy",),
    )


TaskName = Literal[
    "digits-inr",
    "digits-inr-10",
    "digits-inr-shared",
    "digits-inr-shuffled",
    "sine",
    "digits-mlp",
    "dilation",
]

TASKS: dict[TaskName, Task] = {
    "digits-inr": _digits_inr(),
    "digits-inr-10": _digits_inr(copies=10),
    "digits-inr-shared": _digits_inr(initialisation="shared"),
    "digits-inr-shuffled": _digits_inr(initialisation="shared", shuffle=True),
    "sine": Task(
        sine_inrs,
        "regression",
        ("a", "b"),
        "sign",
        *(-float(np.pi), float(np.pi), 1, 1),
        ("mse_a", "mse_b"),
    ),
    "digits-mlp": Task(
        digits_mlps,
        "ranking",
        ("accuracy",),
        "scale",
        *(0.0, 1.0, 64, 10),
        ("tau",),
    ),
    "dilation": Task(
        lambda: digits_inrs(copies=10),
        "editing",
        (),
        "sign",
        *(-1.0, 1.0, 2, 1),
        ("mse",),
    ),
}
"""The tasks by name."""


def find(name: str) -> Task:
    """The task of a name.

    Raises:
        ValueError: If there is none.
    """
    for known, task in TASKS.items():
        if known == name:
            return task
    raise ValueError(f"There is no task {name!r}; there are {list(TASKS)}.")


def score(
    task: Task, predicted: Float[np.ndarray, "n _"], labels: Num[np.ndarray, "n _"]
) -> dict[str, float]:
    """The task's metrics.

    Args:
        task: The task, not of editing.
        predicted: Logits of classes, or numbers in the units of the labels.
        labels: The class, or the numbers.

    Returns:
        Accuracy, the mean squared error of each label, or Kendall's τ (τ-b, which
        takes equal labels into account).
    """
    if task.kind == "classification":
        correct = predicted.argmax(1) == labels[:, 0]
        return {"accuracy": float(np.mean(correct))}
    if task.kind == "ranking":
        # The result's attributes are not in SciPy's type annotations.
        found: Any = scipy.stats.kendalltau(predicted[:, 0], labels[:, 0])
        return {"tau": float(found.statistic)}
    errors = np.mean((predicted - labels) ** 2, axis=0)
    return {
        name: float(error) for name, error in zip(task.metrics, errors, strict=True)
    }

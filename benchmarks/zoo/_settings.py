import dataclasses
from typing import Annotated, Literal

from applications.settings import (
    AtLeast,
    AtMost,
    check_settings,
    Count,
    OptionalRate,
)


Split = Literal["train", "validation", "test", "out_of_range"]


_LEARNING_RATE = 3e-3


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the encoders are trained: the same for all of them.

    Attributes:
        steps: Gradient steps.
        batch_size: Networks in a step.
        learning_rate: Its highest value, of AdamW; it rises for a tenth of the steps
            and falls by a cosine. Unless given 0.003, or what an encoder has of its
            own.
        weight_decay: Weight decay.
        dropout: Share of the encoder's vector that is left out in training, where the
            task is to tell classes.
        width: Width of the head's hidden layer.
        fit_on: Splits that the networks trained on are from.
        score_on: Splits that the figures are from, each by itself.
    """

    steps: Count = 2000
    batch_size: Count = 64
    learning_rate: OptionalRate = None
    weight_decay: Annotated[float, AtLeast(0)] = 0.1
    dropout: Annotated[float, AtLeast(0), AtMost(1)] = 0.2
    width: Count = 128
    fit_on: tuple[Split, ...] = ("train", "validation")
    score_on: tuple[Split, ...] = ("test", "out_of_range")

    def __post_init__(self):
        """Checks numbers and splits.

        Raises:
            ValueError: If a number is out of its range, there are no splits, or
                networks would be scored that were trained on.
        """
        check_settings(self)
        both = sorted(set(self.fit_on) & set(self.score_on))
        if both or not self.fit_on or not self.score_on:
            raise ValueError(
                f"Networks of {list(self.fit_on)} are to be trained on and those of "
                f"{list(self.score_on)} to be scored: name splits for both, and none "
                "for both at once."
            )

    def rate_for(self, own: float | None) -> float:
        """The learning rate of an encoder.

        Args:
            own: The encoder's own, if it has one.

        Returns:
            What was asked for, or its own, or the default.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        return _LEARNING_RATE if own is None else own

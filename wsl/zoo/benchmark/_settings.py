import dataclasses
from typing import Literal


Split = Literal["train", "validation", "test", "out_of_range"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the encoders are trained: the same for all of them.

    Attributes:
        steps: Gradient steps.
        batch_size: Networks in a step.
        learning_rate: Its highest value, of AdamW; it rises for a tenth of the steps
            and falls by a cosine.
        weight_decay: Weight decay.
        dropout: Share of the encoder's vector that is left out in training, where the
            task is to tell classes.
        width: Width of the head's hidden layer.
        fit_on: Splits that the networks trained on are from.
        score_on: Splits that the figures are from, each by itself.
    """

    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    dropout: float = 0.2
    width: int = 128
    fit_on: tuple[Split, ...] = ("train", "validation")
    score_on: tuple[Split, ...] = ("test", "out_of_range")

"""What is known of a task beside its functions."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Signal:
    """A quantity that a task shows in its observations.

    Attributes:
        name: What it is. `"speed"` is the velocity that the task is about, in m/s or
            in units of the task: along x, or of an ant's torso forward.
        index: Its place in an observation.
        low: Its mean over an episode, with a policy that does little.
        high: The same with a good policy.
    """

    name: str
    index: int
    low: float
    high: float

    def __post_init__(self):
        if self.index < 0 or not self.low < self.high:
            raise ValueError(
                f"A signal has an index from 0 and low below high; got {self}."
            )


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A physical parameter, by which a task has variants.

    Attributes:
        name: What it is, such as `"half-length"`.
        low: The least value of the variants to be tried, in units of the task.
        high: The largest one.
        own: The value of the task itself, among them.
    """

    name: str
    low: float
    high: float
    own: float

    def __post_init__(self):
        if not self.low < self.high or not self.low <= self.own <= self.high:
            raise ValueError(
                "A parameter has low below high, and the task's own value among them; "
                f"got {self}."
            )


@dataclasses.dataclass(frozen=True)
class TaskFacts:
    """Facts that algorithms ask a task for. A task need not know any.

    Attributes:
        return_range: Returns, from those of bad policies to those of good ones;
            without the survival bonus where the task can do without.
        signals: Quantities that observations show.
        control_step: Duration of a control step, in s, or in units of the task: a
            speed times it is a distance.
        parameter: What variants of the task differ in, if there are any.
    """

    return_range: tuple[float, float] | None = None
    signals: tuple[Signal, ...] = ()
    control_step: float | None = None
    parameter: Parameter | None = None

    def __post_init__(self):
        if self.control_step is not None and not self.control_step > 0:
            raise ValueError(
                f"control_step is {self.control_step}; it must be positive."
            )
        if self.return_range is not None:
            low, high = self.return_range
            if not low < high:
                raise ValueError(
                    f"return_range is {self.return_range}; it must be (low, high)."
                )

    def signal(self, name: str) -> Signal | None:
        """The signal of a name, or None where the task shows no such thing."""
        return next((x for x in self.signals if x.name == name), None)

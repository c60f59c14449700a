"""Tasks: pure functions over a physics engine, found by name with `make`."""

from applications.envs._registry import make as make, names as names
from applications.envs._render import render as render
from applications.envs._task import (
    AbstractTask as AbstractTask,
    ActionSpace as ActionSpace,
    Continuous as Continuous,
    Discrete as Discrete,
    State as State,
)

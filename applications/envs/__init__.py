"""Tasks: pure functions over a physics engine, found by name with `make`."""

from applications.envs._registry import (
    make as make,
    names as names,
    PhysicsEngine as PhysicsEngine,
    resolve_physics as resolve_physics,
)
from applications.envs._render import render as render
from applications.envs._task import (
    AbstractEnvironment as AbstractEnvironment,
    AbstractTask as AbstractTask,
    ActionSpace as ActionSpace,
    Continuous as Continuous,
    Discrete as Discrete,
    Integrator as Integrator,
    State as State,
)

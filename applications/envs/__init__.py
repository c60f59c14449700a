"""Tasks: pure functions over a physics engine, found by name with `make`.

What a task on a MuJoCo model is made of is in `applications.envs.mujoco`, ways from and
to other libraries in `applications.envs.adapters`; importing this imports neither.
"""

from applications.envs._cores import count_cores as count_cores
from applications.envs._facts import (
    Parameter as Parameter,
    Signal as Signal,
    TaskFacts as TaskFacts,
)
from applications.envs._outcome_task import (
    outcome_name as outcome_name,
    OUTCOMES as OUTCOMES,
    OutcomeTask as OutcomeTask,
    split_outcome as split_outcome,
    with_outcome as with_outcome,
)
from applications.envs._outcomes import (
    AbstractOutcome as AbstractOutcome,
    FinalX as FinalX,
    MaxSpeed as MaxSpeed,
    SparseGoal as SparseGoal,
)
from applications.envs._registry import (
    make as make,
    names as names,
    PhysicsEngine as PhysicsEngine,
    resolve_physics as resolve_physics,
)
from applications.envs._render import check_film as check_film, render as render
from applications.envs._settings import TaskSettings as TaskSettings
from applications.envs._spaces import (
    ActionSpace as ActionSpace,
    Continuous as Continuous,
    Discrete as Discrete,
)
from applications.envs._task import (
    AbstractEnvironment as AbstractEnvironment,
    AbstractTask as AbstractTask,
    Integrator as Integrator,
    State as State,
)
from applications.envs._variants import (
    HasVariants as HasVariants,
    parameter_of as parameter_of,
    variant_of as variant_of,
)

"""Many environments of a task at once, as Gymnasium's vector environment.

Actions come from outside: this is for algorithms of other libraries. What steps them is
that which steps whole populations of policies: a compiled function, the C engine, or
worker processes.
"""

from applications.rollout.vector._vector import (
    to_vector as to_vector,
    VectorTask as VectorTask,
)

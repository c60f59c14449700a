"""What tasks on MuJoCo models are made of. Importing this imports mujoco.

A task is a definition, which knows no engine; `applications.envs.mjx.MJXTask` and
`applications.envs.native.NativeTask` step it.
"""

from applications.envs.mujoco._definition import (
    AbstractMujocoDefinition as AbstractMujocoDefinition,
    Physics as Physics,
)
from applications.envs.mujoco._engine import AbstractMujocoTask as AbstractMujocoTask
from applications.envs.mujoco._models import (
    gymnasium_model as gymnasium_model,
    gymnasium_spec as gymnasium_spec,
    to_body_frame as to_body_frame,
)

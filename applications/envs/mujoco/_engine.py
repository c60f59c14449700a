import equinox as eqx

from applications.envs._facts import TaskFacts
from applications.envs._spaces import Continuous
from applications.envs._task import AbstractEnvironment
from applications.envs.mujoco._definition import AbstractMujocoDefinition


class AbstractMujocoTask(AbstractEnvironment):
    """A definition on an engine, which says of itself what its definition says.

    Attributes:
        definition: The task being stepped.
    """

    definition: eqx.AbstractVar[AbstractMujocoDefinition]

    @property
    def observation_size(self) -> int:
        """Length of an observation."""
        return self.definition.observation_size

    @property
    def action_space(self) -> Continuous:
        """The box that actions lie in."""
        return self.definition.action_space

    @property
    def horizon(self) -> int:
        """The time limit, in control steps."""
        return self.definition.horizon

    @property
    def facts(self) -> TaskFacts:
        """What else is known of the task."""
        return self.definition.facts

"""GoGePo: a generator that writes a policy for any return that is commanded."""

from applications.gogepo.algorithm import (
    GoGePo as GoGePo,
    Model as Model,
    State as State,
)
from applications.gogepo.config import Config as Config

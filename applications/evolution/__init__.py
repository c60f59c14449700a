"""Evolution strategies of evosax, with our rollouts."""

from applications.evolution.config import (
    ARSConfig as ARSConfig,
    Config as Config,
    OpenESConfig as OpenESConfig,
)

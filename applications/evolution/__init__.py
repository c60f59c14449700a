"""Evolution strategies of evosax, with our rollouts."""

from applications.evolution.config import (
    ARSConfig as ARSConfig,
    CMAESConfig as CMAESConfig,
    Config as Config,
    OpenESConfig as OpenESConfig,
    SepCMAESConfig as SepCMAESConfig,
    SNESConfig as SNESConfig,
)

"""Evolution strategies of evosax and MAP-Elites of QDax, with our rollouts."""

from applications.evolution.config import (
    ARSConfig as ARSConfig,
    CMAESConfig as CMAESConfig,
    Config as Config,
    MAPElitesConfig as MAPElitesConfig,
    OpenESConfig as OpenESConfig,
    SepCMAESConfig as SepCMAESConfig,
    SNESConfig as SNESConfig,
)

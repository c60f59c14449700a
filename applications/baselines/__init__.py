"""What EPVF is compared with: algorithms of well-kept libraries, on our tasks."""

from applications.baselines.config import (
    BraxARSConfig as BraxARSConfig,
    DDPGConfig as DDPGConfig,
    PPOConfig as PPOConfig,
    SACConfig as SACConfig,
)

"""What EPVF is compared with: algorithms of well-kept libraries, on our tasks."""

from applications.baselines.config import (
    BraxARSConfig as BraxARSConfig,
    PPOConfig as PPOConfig,
    SACConfig as SACConfig,
)
from applications.baselines.config_sb3 import (
    DDPGConfig as DDPGConfig,
    SB3PPOConfig as SB3PPOConfig,
    SB3SACConfig as SB3SACConfig,
)

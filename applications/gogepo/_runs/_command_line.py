"""What GoGePo's trainer can be told: settings of the presets."""

from applications.envs import TaskSettings
from applications.gogepo.config import PRESETS
from applications.training import CommandLine, LaunchSettings, RunSettings


_CHECKPOINT_EVERY = {"vectorised": 10, "sequential": 1000}

COMMAND_LINE = CommandLine(
    "python -m applications.gogepo.train",
    {
        preset: RunSettings(
            "gogepo",
            TaskSettings(),
            config,
            LaunchSettings(checkpoint_every=_CHECKPOINT_EVERY[preset]),
            preset,
        )
        for preset, config in PRESETS.items()
    },
    "preset",
)

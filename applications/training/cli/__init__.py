"""Settings of a run, its command line, and training as they say."""

from applications.training.cli._command_line import CommandLine as CommandLine
from applications.training.cli._commands import (
    resume_command as resume_command,
    Trainer as Trainer,
    TRAINERS as TRAINERS,
)
from applications.training.cli._compilation import keep_compiled as keep_compiled
from applications.training.cli._display import without_display as without_display
from applications.training.cli._parse import (
    load_state as load_state,
    new_directory as new_directory,
    parse_settings as parse_settings,
)
from applications.training.cli._policy import (
    evaluate_policy as evaluate_policy,
    open_policy as open_policy,
    save_policy as save_policy,
)
from applications.training.cli._settings import (
    asked_otherwise as asked_otherwise,
    checkpoint_settings as checkpoint_settings,
    LaunchSettings as LaunchSettings,
    RunSettings as RunSettings,
)
from applications.training.cli._train import train as train

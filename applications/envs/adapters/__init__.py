"""Tasks as other libraries want them, and theirs as ours.

Each adapter imports its library when it is first asked for.
"""

import importlib
from typing import Any, TYPE_CHECKING


if TYPE_CHECKING:
    from applications.envs.adapters._brax import (
        quiet_import as quiet_import,
        to_brax as to_brax,
    )
    from applications.envs.adapters._from_gymnasium import (
        GymnasiumEnvironment as GymnasiumEnvironment,
    )
    from applications.envs.adapters._playground import (
        from_playground as from_playground,
        PlaygroundTask as PlaygroundTask,
    )
    from applications.envs.adapters._simulations import (
        HostSimulations as HostSimulations,
    )
    from applications.envs.adapters._to_gymnasium import (
        gymnasium_spaces as gymnasium_spaces,
        GymnasiumTask as GymnasiumTask,
        to_gymnasium as to_gymnasium,
    )

_MODULES = {
    "from_playground": "_playground",
    "gymnasium_spaces": "_to_gymnasium",
    "GymnasiumEnvironment": "_from_gymnasium",
    "GymnasiumTask": "_to_gymnasium",
    "HostSimulations": "_simulations",
    "PlaygroundTask": "_playground",
    "quiet_import": "_brax",
    "to_brax": "_brax",
    "to_gymnasium": "_to_gymnasium",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULES)

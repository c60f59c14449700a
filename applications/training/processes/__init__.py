"""Processes that train one run together: how they meet, agree, and end."""

from applications.training.processes._collective import (
    any_process as any_process,
    broadcast as broadcast,
    broadcast_arrays as broadcast_arrays,
    check_same as check_same,
    is_main as is_main,
    on_all as on_all,
    on_main as on_main,
    shutdown as shutdown,
)
from applications.training.processes._errors import CollectiveStop as CollectiveStop
from applications.training.processes._exit import (
    exit_on_user_error as exit_on_user_error,
)
from applications.training.processes._joining import (
    arm_peer_failure_message as arm_peer_failure_message,
    find_place as find_place,
    join as join,
)
from applications.training.processes._running import CommandRunner as CommandRunner

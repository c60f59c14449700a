"""Runs of GoGePo: their settings, what they keep, and pictures of what they learned."""

from applications.gogepo._runs._command_line import COMMAND_LINE as COMMAND_LINE
from applications.gogepo._runs._drawing import (
    draw_commands as draw_commands,
    draw_conditions as draw_conditions,
    draw_policies as draw_policies,
)
from applications.gogepo._runs._snapshots import (
    keep_snapshot as keep_snapshot,
    last_snapshot as last_snapshot,
    open_run as open_run,
    snapshots as snapshots,
)

"""What a run is on disk: its directory, manifest, checkpoints and rows of metrics."""

from applications.training.storage._arrays import (
    from_numpy as from_numpy,
    to_numpy as to_numpy,
)
from applications.training.storage._checkpoint import (
    checkpoints as checkpoints,
    DamagedError as DamagedError,
    diverged as diverged,
    load_checkpoint as load_checkpoint,
    Progress as Progress,
    read_checkpoint as read_checkpoint,
    save_checkpoint as save_checkpoint,
)
from applications.training.storage._files import (
    check_directory as check_directory,
    check_output as check_output,
    finite_or_none as finite_or_none,
    set_aside as set_aside,
    write_atomically as write_atomically,
    write_json as write_json,
)
from applications.training.storage._manifest import Manifest as Manifest
from applications.training.storage._metrics import (
    iterate_rows as iterate_rows,
    MetricsLog as MetricsLog,
    read_rows as read_rows,
    Row as Row,
)
from applications.training.storage._run import Run as Run

"""What every trainer shares: settings, run directory, metrics, loop, processes."""

from applications.training._checkpoint import (
    checkpoints as checkpoints,
    load_checkpoint as load_checkpoint,
    Progress as Progress,
    read_checkpoint as read_checkpoint,
    save_checkpoint as save_checkpoint,
)
from applications.training._command import (
    fixed as fixed,
    load_state as load_state,
    new_directory as new_directory,
    parse_settings as parse_settings,
    recorded as recorded,
)
from applications.training._comparison import (
    bootstrap_interval as bootstrap_interval,
    comparison_table as comparison_table,
    Curve as Curve,
    draw_comparison as draw_comparison,
    interquartile_mean as interquartile_mean,
    read_curve as read_curve,
    summarise as summarise,
)
from applications.training._errors import AllStop as AllStop
from applications.training._exit import exit_on_user_error as exit_on_user_error
from applications.training._files import (
    write_atomically as write_atomically,
    write_json as write_json,
)
from applications.training._joining import expect_losses as expect_losses
from applications.training._keys import key_for as key_for, Purpose as Purpose
from applications.training._loop import Interrupt as Interrupt, loop as loop
from applications.training._metrics import (
    MetricsLog as MetricsLog,
    read_rows as read_rows,
    Row as Row,
)
from applications.training._plot import plot_returns as plot_returns
from applications.training._processes import (
    is_main as is_main,
    on_all as on_all,
    on_main as on_main,
    share as share,
    share_arrays as share_arrays,
)
from applications.training._progress import ProgressLine as ProgressLine, shown as shown
from applications.training._run import Run as Run
from applications.training._settings import RunSettings as RunSettings
from applications.training._task import (
    evaluate_policy as evaluate_policy,
    make_task as make_task,
    save_policy as save_policy,
)
from applications.training._training import train as train

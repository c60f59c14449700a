"""What every trainer shares: settings, run directory, metrics, loop, processes."""

from applications.runs._checkpoint import (
    checkpoints as checkpoints,
    load_checkpoint as load_checkpoint,
    Progress as Progress,
    read_checkpoint as read_checkpoint,
    save_checkpoint as save_checkpoint,
)
from applications.runs._command import (
    fixed as fixed,
    load_state as load_state,
    new_directory as new_directory,
    parse_settings as parse_settings,
    recorded as recorded,
)
from applications.runs._comparison import (
    bootstrap_interval as bootstrap_interval,
    comparison_table as comparison_table,
    Curve as Curve,
    draw_comparison as draw_comparison,
    interquartile_mean as interquartile_mean,
    read_curve as read_curve,
    summarise as summarise,
)
from applications.runs._errors import AllStop as AllStop, UserError as UserError
from applications.runs._exit import exit_on_user_error as exit_on_user_error
from applications.runs._files import (
    write_atomically as write_atomically,
    write_json as write_json,
)
from applications.runs._joining import expect_losses as expect_losses
from applications.runs._keys import key_for as key_for, Purpose as Purpose
from applications.runs._loop import Interrupt as Interrupt, loop as loop
from applications.runs._metrics import (
    MetricsLog as MetricsLog,
    read_rows as read_rows,
    Row as Row,
)
from applications.runs._plot import plot_returns as plot_returns
from applications.runs._processes import (
    is_main as is_main,
    on_all as on_all,
    on_main as on_main,
    share as share,
    share_arrays as share_arrays,
)
from applications.runs._progress import ProgressLine as ProgressLine, shown as shown
from applications.runs._run import Run as Run
from applications.runs._settings import (
    AtLeast as AtLeast,
    AtMost as AtMost,
    check_settings as check_settings,
    Count as Count,
    flag as flag,
    OptionalCount as OptionalCount,
    Positive as Positive,
    Rate as Rate,
    RunSettings as RunSettings,
    Schedule as Schedule,
    schedule as schedule,
    Seed as Seed,
    settings_from_json as settings_from_json,
    settings_to_json as settings_to_json,
    Widths as Widths,
)
from applications.runs._task import (
    evaluate_policy as evaluate_policy,
    make_task as make_task,
    save_policy as save_policy,
)
from applications.runs._training import train as train

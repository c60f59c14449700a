"""What every trainer shares, in rooms that import only from those before them.

`storage` (run directory, manifest, checkpoints, metrics), `processes` (several that
train together), `loop` (iterations until a stop rule), `plots`, and `cli` (settings,
command line, and `train`).
"""

from applications.training.cli import (
    asked_otherwise as asked_otherwise,
    checkpoint_settings as checkpoint_settings,
    CommandLine as CommandLine,
    evaluate_policy as evaluate_policy,
    keep_compiled as keep_compiled,
    LaunchSettings as LaunchSettings,
    load_state as load_state,
    new_directory as new_directory,
    open_policy as open_policy,
    parse_settings as parse_settings,
    resume_command as resume_command,
    RunSettings as RunSettings,
    save_policy as save_policy,
    train as train,
    Trainer as Trainer,
    TRAINERS as TRAINERS,
)
from applications.training.loop import (
    Interrupt as Interrupt,
    key_for as key_for,
    Limit as Limit,
    loop as loop,
    make_row as make_row,
    ProgressLine as ProgressLine,
    Purpose as Purpose,
    shown as shown,
    Sink as Sink,
    StopRule as StopRule,
    TensorBoard as TensorBoard,
)
from applications.training.plots import (
    bootstrap_interval as bootstrap_interval,
    check_picture as check_picture,
    comparison_table as comparison_table,
    Curve as Curve,
    draw_comparison as draw_comparison,
    interquartile_mean as interquartile_mean,
    Middle as Middle,
    Panels as Panels,
    plot_returns as plot_returns,
    read_curve as read_curve,
    save_figure as save_figure,
    summarise as summarise,
)
from applications.training.processes import (
    arm_peer_failure_message as arm_peer_failure_message,
    broadcast as broadcast,
    broadcast_arrays as broadcast_arrays,
    CollectiveStop as CollectiveStop,
    exit_on_user_error as exit_on_user_error,
    is_main as is_main,
    join as join,
    on_all as on_all,
    on_main as on_main,
)
from applications.training.storage import (
    check_directory as check_directory,
    check_output as check_output,
    checkpoints as checkpoints,
    DamagedError as DamagedError,
    finite_or_none as finite_or_none,
    iterate_rows as iterate_rows,
    load_checkpoint as load_checkpoint,
    Manifest as Manifest,
    MetricsLog as MetricsLog,
    Progress as Progress,
    read_checkpoint as read_checkpoint,
    read_rows as read_rows,
    Row as Row,
    Run as Run,
    save_checkpoint as save_checkpoint,
    set_aside as set_aside,
    write_atomically as write_atomically,
    write_json as write_json,
)

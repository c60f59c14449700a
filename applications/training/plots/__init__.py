"""Pictures and statistics of runs: learning curves, and groups beside each other."""

from applications.training.plots._comparison import (
    comparison_table as comparison_table,
    draw_comparison as draw_comparison,
    Middle as Middle,
    Panels as Panels,
    summarise as summarise,
)
from applications.training.plots._learning_curve import plot_returns as plot_returns
from applications.training.plots._save import (
    check_picture as check_picture,
    save_figure as save_figure,
)
from applications.training.plots._statistics import (
    bootstrap_interval as bootstrap_interval,
    Curve as Curve,
    interquartile_mean as interquartile_mean,
    read_curve as read_curve,
)
from applications.training.plots._style import (
    colour_of as colour_of,
    picture_style as picture_style,
)

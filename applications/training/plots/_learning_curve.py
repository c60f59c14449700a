from pathlib import Path

from applications.training.plots._save import save_figure
from applications.training.storage import Row


_CURVES = (
    ("return_perturbed_max", "best of the perturbed policies", "0.75"),
    ("return_perturbed_mean", "mean of the perturbed policies", "tab:blue"),
    ("return_policy", "unperturbed policy", "tab:orange"),
)


def plot_returns(rows: list[Row], path: Path, *, title: str) -> None:
    """Draws the learning curve of a run.

    Args:
        rows: Rows of its `metrics.jsonl`. Returns that they do not have are left out.
        path: The picture to write.
        title: What stands above.

    Raises:
        OSError: If the file cannot be written.
    """
    # Slow to import.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for name, label, color in _CURVES:
        if name in rows[-1]:
            # Rows without a number leave no gap.
            there = [row for row in rows if row.get(name) is not None]
            steps = [row["env_steps"] for row in there]
            axes.plot(steps, [row[name] for row in there], label=label, color=color)
    axes.set(title=title, xlabel="environment steps", ylabel="undiscounted return")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)

import io
from pathlib import Path

from applications.training._files import write_atomically
from applications.training._metrics import Row


def plot_returns(rows: list[Row], path: Path, *, title: str) -> None:
    """Draws the learning curve of a run.

    Args:
        rows: Rows of its `metrics.jsonl`.
        path: The PNG file to write.
        title: What stands above.

    Raises:
        OSError: If the file cannot be written.
    """
    # Slow to import, and only needed when a run ends.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    steps = [row["env_steps"] for row in rows]
    curves = (
        ("return_perturbed_max", "best of the perturbed policies", "0.75"),
        ("return_perturbed_mean", "mean of the perturbed policies", "tab:blue"),
        ("return_policy", "unperturbed policy", "tab:orange"),
    )
    for name, label, color in curves:
        if name not in rows[-1]:  # of algorithms without a population
            continue
        axes.plot(steps, [row[name] for row in rows], label=label, color=color)
    axes.set(title=title, xlabel="environment steps", ylabel="undiscounted return")
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))

"""Table and picture of the layer's benchmark."""

from typing import Any

from _style import in_style, legend_below, WIDTH
from matplotlib.figure import Figure


_COLOURS = {
    "ours": "tab:blue",
    "terms": "tab:orange",
    "stacked": "tab:red",
    "nfn": "tab:green",
}
_LABELS = {
    "ours": "EquivariantLinear",
    "terms": "term by term",
    "stacked": "term by term, one array a leaf (UNF)",
    "nfn": "nfn (PyTorch)",
}
# What is drawn of each: the column, the title, how it is called in the legend.
_PANELS = [
    ("step_ms", "step (ms)"),
    ("compile_s", "compilation (s)"),
    ("peak_mib", "peak memory (MiB)"),
]


def best(ways: dict[str, Any], name: str, key: str) -> float | None:
    """The least over all sizes of chunks; None where there is no figure."""
    found = [
        result[key]
        for way, result in ways.items()
        if way.partition(":")[0] == name and key in result
    ]
    return min(found) if found else None


def print_table(results: list[dict[str, Any]]) -> None:
    head = (
        f"{'':24} {'way':15} {'terms':>9} {'trace s':>8} {'compile s':>9} "
        f"{'step ms':>9} {'peak MiB':>9}"
    )
    print(head)
    for result in results:
        name = result["name"]
        for way, found in result["ways"].items():
            cells = [
                _cell(found.get("num_terms"), 9),
                _cell(found.get("trace_s"), 8),
                _cell(found.get("compile_s"), 9),
                _cell(found.get("step_ms"), 9),
                _cell(found.get("peak_mib"), 9),
            ]
            note = "  not done within the cap" if "capped" in found else ""
            print(f"{name:24} {way:15} {' '.join(cells)}{note}")
            name = ""
    print()
    for result in results:
        ways, ratios = result["ways"], []
        for other in ("terms", "stacked", "nfn"):
            for key, what in (("compile_s", "compile"), ("step_ms", "step")):
                theirs, mine = best(ways, other, key), best(ways, "ours", key)
                if theirs is not None and mine is not None:
                    ratios.append(f"{what} {theirs / mine:.1f}x of {other}")
        errors = [
            f"{way}: {error:.1e}"
            for way, error in (
                ("terms", result.get("largest_error_terms")),
                ("nfn", ways.get("nfn", {}).get("largest_error")),
            )
            if error is not None
        ]
        print(
            f"{result['name']:24} faster: {', '.join(ratios) or '-'}; largest "
            f"difference: {', '.join(errors) or '-'}"
        )


@in_style()
def draw(results: list[dict[str, Any]]) -> Figure:
    """Bars for each case, on logarithmic scales."""
    figure = Figure(figsize=(WIDTH, 8.5))
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    names = [result["name"] for result in results]
    for axes, (key, title) in zip(panels, _PANELS, strict=True):
        for i, way in enumerate(_LABELS):
            values = [_value(result["ways"], way, key) for result in results]
            places = [
                n + 0.22 * (i - 1.5) for n, v in enumerate(values) if v is not None
            ]
            known = [v for v in values if v is not None]
            if known:
                axes.barh(places, known, 0.2, color=_COLOURS[way], label=_LABELS[way])
            for place, value in zip(places, known, strict=True):
                axes.text(value * 1.06, place, _cell(value, 0), va="center", fontsize=6)
        axes.set(title=title, xscale="log")
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.3, y=0.02)
        if key == "peak_mib":
            axes.set_xticks([250, 500, 1000, 2000], ["250", "500", "1000", "2000"])
            axes.minorticks_off()
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    legend_below(figure, panels, ncols=2)
    figure.suptitle(
        "Equivariant linear layers, loss and gradient, CPU with 2 threads. Steps with\n"
        "the batch whole or in chunks, whichever is faster; memory with it whole",
        fontsize="medium",
    )
    for n, result in enumerate(results):
        capped = [way for way, found in result["ways"].items() if "capped" in found]
        if capped:
            cap = result["ways"][capped[0]]["capped"]
            text = f"term by term: not compiled in {cap:.0f} s"
            panels[1].text(
                panels[1].get_xlim()[0] * 1.1, n, text, va="center", fontsize=6
            )
    return figure


def _value(ways: dict[str, Any], name: str, key: str) -> float | None:
    return ways.get(name, {}).get(key) if key == "peak_mib" else best(ways, name, key)


def _cell(value: float | int | None, width: int) -> str:
    if value is None:
        return " " * width
    text = f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"
    return f"{text:>{width}}"

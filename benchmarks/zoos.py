"""The zoos: how long they take to make, how good their networks are, what they show.

python benchmarks/zoos.py
"""

import time

import jax
import matplotlib.pyplot as plt
import numpy as np
from _common import write

from wsl.zoo import digits_inrs, digits_mlps, dilate, render, sine_inrs


MAKERS = {
    "digits_inrs()": lambda: digits_inrs(cache=False),
    "digits_inrs(copies=10)": lambda: digits_inrs(copies=10, cache=False),
    "sine_inrs()": lambda: sine_inrs(cache=False),
    "digits_mlps()": lambda: digits_mlps(cache=False),
}


def main() -> None:
    rows, zoos = [], {}
    for name, make in MAKERS.items():
        began = time.perf_counter()
        zoo = jax.block_until_ready(make())
        seconds = time.perf_counter() - began
        label = "accuracy" if "mlps" in name else "mse" if "sine" in name else "psnr"
        inside = zoo.labels[label][zoo.parts != "out_of_range"]
        quantiles = np.quantile(inside, [0, 0.25, 0.5, 0.75, 1]).tolist()
        row = {"zoo": name, "networks": len(zoo), "seconds": seconds}
        rows.append(row | {"label": label, "quartiles": quantiles})
        zoos[name] = zoo
        print(rows[-1])
    write("zoos", "python benchmarks/zoos.py", {"rows": rows}, _figure(zoos))


def _figure(zoos: dict):
    figure, panels = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
    digits = zoos["digits_inrs()"].split("test")
    pictures = np.asarray(render(digits.networks, digits.data["coordinates"]))
    pictures = pictures[:20].reshape(-1, 8, 8)
    for axes, shown, title in (
        (panels[0], pictures, "what INRs show"),
        (panels[1], dilate(pictures), "the same, dilated"),
    ):
        padded = np.pad(shown, ((0, 0), (1, 0), (1, 0)))
        rows = [np.concatenate(padded[i : i + 5], axis=1) for i in range(0, 20, 5)]
        axes.imshow(np.concatenate(rows), cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
        axes.set_title(title, fontsize=10)
    sines = zoos["sine_inrs()"].split("test")
    line = np.linspace(-np.pi, np.pi, 300, dtype=np.float32)[:, None]
    for curve in np.asarray(render(sines.networks, line))[:5, :, 0]:
        panels[2].plot(line[:, 0], curve, linewidth=1)
    panels[2].set_title("sine INRs", fontsize=10)
    mlps = zoos["digits_mlps()"]
    scatter = panels[3].scatter(
        mlps.labels["learning_rate"],
        mlps.labels["accuracy"],
        c=np.log10(mlps.labels["scale"]),
        s=4,
    )
    panels[3].set_xscale("log")
    panels[3].set_xlabel("learning rate")
    panels[3].set_title("accuracy of the MLPs", fontsize=10)
    figure.colorbar(scatter, ax=panels[3], label="log10 of the initial scale")
    return figure


if __name__ == "__main__":
    main()

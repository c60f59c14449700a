import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from wsl.interop.files import load


_SUFFIXES = (".safetensors", ".npz")


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FileZoo:
    """Networks in files, read when they are asked for.

    Made by [`from_files`][wsl.zoo.from_files]. There may be more of them than memory
    holds: only a batch is read at a time.

    Attributes:
        paths: The files, one for each network.
        labels: Arrays by name, one entry for each network.
        parts: For each network the name of its split.
        like: A network of the form that is to be returned; None for the arrays by name.
    """

    paths: tuple[Path, ...]
    labels: Mapping[str, np.ndarray]
    parts: np.ndarray
    like: PyTree = None

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        names, counts = np.unique(self.parts, return_counts=True)
        parts = ", ".join(f"{n} {m}" for n, m in zip(names, counts, strict=True))
        labels = ", ".join(self.labels)
        return f"FileZoo({len(self)} files; {parts}; labels: {labels})"

    def split(self, *names: str) -> "FileZoo":
        """The networks of a split, or of several together.

        Args:
            *names: Names of splits.

        Returns:
            A zoo of these networks alone.

        Raises:
            ValueError: If the zoo has no network of a split.
        """
        present = [str(name) for name in np.unique(self.parts)]
        for name in names:
            if name not in present:
                raise ValueError(f"No network is in split {name!r}; splits: {present}.")
        chosen = np.flatnonzero(np.isin(self.parts, names))
        return FileZoo(
            tuple(self.paths[i] for i in chosen),
            {name: values[chosen] for name, values in self.labels.items()},
            self.parts[chosen],
            self.like,
        )

    def network(self, i: int) -> PyTree:
        """Reads one network.

        Args:
            i: Which.

        Returns:
            The network.

        Raises:
            ValueError: If the file does not have the leaves of `like`.
        """
        arrays = load(self.paths[i])
        if self.like is None:
            return arrays
        weights = eqx.filter(self.like, eqx.is_array)
        with_paths, treedef = jtu.tree_flatten_with_path(weights)
        own = {jtu.keystr(path): leaf for path, leaf in with_paths}
        shapes = {name: x.shape for name, x in arrays.items()}
        if shapes != {name: x.shape for name, x in own.items()}:
            wrong = [n for n in own if shapes.get(n) != own[n].shape]
            raise ValueError(
                f"{self.paths[i]} is no network like `like`. Leaves that are missing "
                f"or of another shape: {wrong}; others: {sorted(shapes.keys() - own)}."
            )
        leaves = [arrays[name].astype(leaf.dtype) for name, leaf in own.items()]
        return eqx.combine(jax.tree.unflatten(treedef, leaves), self.like)

    def take(self, chosen: Sequence[int] | np.ndarray) -> PyTree:
        """Reads some networks, as a stack.

        Args:
            chosen: Which, in order.

        Returns:
            Networks stacked leaf by leaf.

        Raises:
            ValueError: If networks are not of one form.
        """
        networks = [self.network(int(i)) for i in chosen]

        def stack(*leaves: Any) -> Any:
            if not eqx.is_array(leaves[0]):
                return leaves[0]
            return jnp.asarray(np.stack([np.asarray(x) for x in leaves]))

        try:
            return jax.tree.map(stack, *networks)
        except ValueError as error:
            raise ValueError(
                f"Networks of several forms cannot be stacked: {error} Give `like`, "
                "or a folder for each architecture."
            ) from error

    def batches(
        self, batch_size: int, *, key: PRNGKeyArray
    ) -> Iterator[tuple[PyTree, dict[str, np.ndarray]]]:
        """Goes through all networks once, in random order.

        Args:
            batch_size: How many networks a batch has; the last one may have fewer.
            key: Source of randomness.

        Returns:
            An iterator over pairs of stacked networks and their labels. A batch's files
            are read when it is asked for.

        Raises:
            ValueError: If the size is not positive.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be positive; got {batch_size}.")
        order = np.asarray(jr.permutation(key, len(self)))
        return (
            (
                self.take(order[start : start + batch_size]),
                {
                    name: values[order[start : start + batch_size]]
                    for name, values in self.labels.items()
                },
            )
            for start in range(0, len(self), batch_size)
        )


def from_files(
    folder: str | Path, table: str | Path | None = None, *, like: PyTree = None
) -> FileZoo:
    """A zoo of one's own, from a folder of networks in files.

    Args:
        folder: A folder of `.safetensors` or `.npz` files, one for each network, with
            arrays by name. Folders in it are looked through as well.
        table: A table of labels, in CSV with a header: the column `file` has the path
            of a network, relative to the folder, every other column is a label. A
            column `split` says which split a network belongs to. Only the networks in
            the table are taken.
        like: A network of the form that is to be returned, a module for instance, whose
            leaves the files have under the names of `jax.tree_util.keystr`. Unless
            given, networks are dictionaries of the arrays in their files.

    Returns:
        The zoo. Nothing is read yet.

    Raises:
        ValueError: If there are no such files, the table has no column `file`, or names
            a file that is not there.
    """
    folder = Path(folder)
    paths = sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES)
    if not paths:
        raise ValueError(f"There are no {' or '.join(_SUFFIXES)} files in {folder}.")
    if table is None:
        return FileZoo(tuple(paths), {}, np.repeat("train", len(paths)), like)
    with Path(table).open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "file" not in rows[0]:
        raise ValueError(f"{table} has no rows, or no column `file`.")
    paths = [folder / row["file"] for row in rows]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise ValueError(f"{table} names files that are not there: {missing[:3]}.")
    labels = {
        name: _column([row[name] for row in rows])
        for name in rows[0]
        if name not in ("file", "split")
    }
    parts = np.asarray([row.get("split") or "train" for row in rows])
    return FileZoo(tuple(paths), labels, parts, like)


def _column(cells: Sequence[str]) -> np.ndarray:
    """A column as whole numbers, numbers, or text."""
    for kind in (int, float):
        try:
            return np.asarray([kind(cell) for cell in cells])
        except ValueError:
            continue
    return np.asarray(cells)

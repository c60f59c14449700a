"""The action on one axis, in NumPy."""

from collections.abc import Sequence

import numpy as np


def take(
    array: np.ndarray, dimensions: Sequence[int], permutation: np.ndarray
) -> np.ndarray:
    """Permutes the last of the dimensions, in each block of the others."""
    if len(dimensions) == 1:
        return np.take(array, permutation, axis=dimensions[0])
    order = np.argsort(dimensions)
    free = [d for d in range(array.ndim) if d not in dimensions]
    index = np.expand_dims(permutation.transpose(order), free)
    return np.take_along_axis(array, index, axis=dimensions[-1])

"""Checks that many constructors begin with."""

from typing import Any


def check_positive(**sizes: int | tuple[int, ...]) -> None:
    """Raises a ValueError that names the sizes that are not positive."""
    wrong = {
        name: size
        for name, size in sizes.items()
        if min(size if isinstance(size, tuple) else (size,), default=1) < 1
    }
    if wrong:
        given = ", ".join(f"`{name}` is {size}" for name, size in wrong.items())
        raise ValueError(f"Sizes must be positive; {given}.")


def check_space(space: Any) -> None:
    """Raises a ValueError if what stands in a space's place is none."""
    if hasattr(space, "element_shapes") and hasattr(space, "leaves"):
        return
    raise ValueError(
        f"Expected a `wsl.WeightSpace`; got {type(space).__name__}. That of a model is "
        "`wsl.infer_weight_space(model, x)`, with an example of what it is called with."
    )

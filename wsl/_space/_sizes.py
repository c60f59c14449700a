"""A check that many constructors begin with."""


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

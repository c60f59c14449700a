from collections.abc import Mapping, Sequence
from typing import Any

from wsl._space import check_space, WeightSpace


def per_leaf(space: WeightSpace, channels: int | Mapping[str, int]) -> tuple[int, ...]:
    """How many channels each leaf has, or each piece, from one number or many."""
    check_space(space)
    if not _is_count(channels) and not (
        isinstance(channels, Mapping) and all(map(_is_count, channels.values()))
    ):
        raise ValueError(
            "Channels are a whole number, the same for all leaves, or one for each "
            f"leaf by its path; got {channels!r}."
        )
    paths = [leaf.path for leaf in space.leaves]
    if isinstance(channels, int):
        counts = dict.fromkeys(paths, channels)
    else:
        counts = dict(channels)
        missing = [path for path in paths if path not in counts]
        unknown = [path for path in counts if path not in paths]
        if missing or unknown:
            raise ValueError(
                f"Give every leaf its number of channels. Missing: {missing}; unknown: "
                f"{unknown}."
            )
    wrong = {path: count for path, count in counts.items() if count < 1}
    if wrong:
        raise ValueError(f"Every leaf needs a channel or more; got {wrong}.")
    return tuple(
        counts[leaf.path] for leaf in space.leaves for _ in leaf.pieces or (leaf,)
    )


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def by_path(space: WeightSpace, channels: Sequence[int]) -> dict[str, int]:
    """The number of channels of each leaf, by its path, from those of the pieces."""
    rest = iter(channels)
    return {
        leaf.path: [next(rest) for _ in leaf.pieces or (leaf,)][0]
        for leaf in space.leaves
    }

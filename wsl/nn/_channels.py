from collections.abc import Mapping

from wsl._weight_space import WeightSpace


def per_leaf(space: WeightSpace, channels: int | Mapping[str, int]) -> tuple[int, ...]:
    """How many channels each leaf has, from one number or one for each path."""
    if isinstance(channels, int):
        counts = dict.fromkeys(space.paths, channels)
    else:
        counts = dict(channels)
        missing = [path for path in space.paths if path not in counts]
        unknown = [path for path in counts if path not in space.paths]
        if missing or unknown:
            raise ValueError(
                f"Give every leaf its number of channels. Missing: {missing}; unknown: "
                f"{unknown}."
            )
    wrong = {path: count for path, count in counts.items() if count < 1}
    if wrong:
        raise ValueError(f"Every leaf needs a channel or more; got {wrong}.")
    return tuple(counts[path] for path in space.paths)

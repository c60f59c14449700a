import functools
import random
from collections.abc import Callable
from typing import Any, TypeAlias

import hypothesis.strategies as st


Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]


def composite(function: Callable[..., Any]) -> Callable[..., st.SearchStrategy[Any]]:
    """`hypothesis.strategies.composite`, for functions that run annotated code.

    Type checkers look at a random item of a long list, and Hypothesis does not put up
    with a strategy that leaves Python's random numbers in another state.
    """

    @functools.wraps(function)
    def wrapper(draw: Draw, *args: Any) -> Any:
        state = random.getstate()
        try:
            return function(draw, *args)
        finally:
            random.setstate(state)

    return st.composite(wrapper)

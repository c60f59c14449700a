"""Property tests for layers on weights: what to draw, and a check for any layer.

Needs Hypothesis, the extra `testing`: from a checkout,
`pip install -c constraints.txt -e '.[testing]'`.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "hypothesis":
        raise
    raise ImportError(
        "wsl.testing needs Hypothesis. Install the extra: pip install -c "
        "constraints.txt -e '.[testing]', from a checkout."
    ) from error

from wsl.testing._architectures import (
    Architecture as Architecture,
    architectures as architectures,
)
from wsl.testing._check import (
    check_equivariance as check_equivariance,
    check_invariance as check_invariance,
)
from wsl.testing._strategies import (
    features as features,
    group_elements as group_elements,
    weight_spaces as weight_spaces,
    weights as weights,
)

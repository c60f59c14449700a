"""Zoos: trained networks to learn on, made on the spot, with splits and labels.

Needs Optax and scikit-learn, the extra `zoo`: from a checkout,
`pip install -c constraints.txt -e '.[zoo]'`. The pictures are those that scikit-learn
bundles: nothing is downloaded. `from_files` makes a zoo of networks of one's own.
"""

try:
    import optax as _optax  # noqa: F401
    import sklearn as _sklearn  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ("optax", "sklearn"):
        raise
    raise ImportError(
        "wsl.zoo needs Optax and scikit-learn. Install the extra: pip install -c "
        "constraints.txt -e '.[zoo]', from a checkout."
    ) from error

from wsl.zoo._digits_inrs import digits_inrs as digits_inrs
from wsl.zoo._digits_mlps import digits_mlps as digits_mlps
from wsl.zoo._files import FileZoo as FileZoo, from_files as from_files
from wsl.zoo._images import dilate as dilate, render as render
from wsl.zoo._sine_inrs import sine_inrs as sine_inrs
from wsl.zoo._siren import Siren as Siren
from wsl.zoo._zoo import Zoo as Zoo

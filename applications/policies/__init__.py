"""Policies as Equinox modules, as rows of a matrix, and as files."""

from applications.policies._file import (
    read_policy as read_policy,
    write_policy as write_policy,
)
from applications.policies._flat_view import FlatView as FlatView
from applications.policies._mlp import Activation as Activation, MLPPolicy as MLPPolicy
from applications.policies._moments import (
    Moments as Moments,
    standardised as standardised,
)

"""The base of all that tries populations of policies and learns from how they did."""

from applications.search._search import (
    AbstractPolicySearch as AbstractPolicySearch,
    Metrics as Metrics,
)

"""Explicit policy-conditioned value functions: V(θ), and policies that ascend it.

``python -m applications.epvf.train`` trains. The algorithm is in `algorithm`, its
settings are in `config`.
"""

from applications.epvf.algorithm import EPVF as EPVF
from applications.epvf.config import Config as Config

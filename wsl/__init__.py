"""Learning on the weights of neural networks, as Equinox modules.

`WeightSpace` says which permutations of a model's weights leave its function alone;
`wsl.encoders` turn a network's weights into a vector.
"""

from wsl import encoders as encoders, nn as nn
from wsl._action import GroupElement as GroupElement
from wsl._axes import Factor as Factor, Slot as Slot
from wsl._weight_space import WeightSpace as WeightSpace


__version__ = "0.1.0"

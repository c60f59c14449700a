"""Encoders: the weights of a network in, a vector out.

Some read its weights, some pass messages along its graph, and some (probing) run it on
learned inputs and read the answers. `Joined` puts several together, `Conditioned` reads
the vector together with states and actions.
"""

from wsl.encoders._conditioned import Conditioned as Conditioned
from wsl.encoders._encoder import AbstractEncoder as AbstractEncoder
from wsl.encoders._equivariant import Equivariant as Equivariant
from wsl.encoders._flat import Flat as Flat
from wsl.encoders._flops import count_flops as count_flops
from wsl.encoders._forward_graph import ForwardGraph as ForwardGraph
from wsl.encoders._generated_probing import GeneratedProbing as GeneratedProbing
from wsl.encoders._graph import Graph as Graph
from wsl.encoders._interactive_probing import InteractiveProbing as InteractiveProbing
from wsl.encoders._joined import Joined as Joined
from wsl.encoders._learned_validation_set import (
    LearnedValidationSet as LearnedValidationSet,
)
from wsl.encoders._probing import Probing as Probing
from wsl.encoders._scale_graph import ScaleEquivariantGraph as ScaleEquivariantGraph
from wsl.encoders._statistics import Statistics as Statistics
from wsl.encoders._transformer import Transformer as Transformer

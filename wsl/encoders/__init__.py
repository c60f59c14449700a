"""Encoders: the weights of a network in, a vector out.

Some read its weights, some pass messages along its graph, and some (probing) run it on
learned inputs and read the answers. `Concatenated` puts several together, `EncodedMLP`
reads the vector together with states and actions.
"""

from wsl.encoders._concatenated import Concatenated as Concatenated
from wsl.encoders._encoded_mlp import EncodedMLP as EncodedMLP
from wsl.encoders._encoder import AbstractEncoder as AbstractEncoder
from wsl.encoders._equivariant import Equivariant as Equivariant
from wsl.encoders._flat import Flat as Flat
from wsl.encoders._flops import count_flops as count_flops
from wsl.encoders._forward_graph import ForwardGraph as ForwardGraph
from wsl.encoders._generated_probing import GeneratedProbing as GeneratedProbing
from wsl.encoders._graph import Graph as Graph
from wsl.encoders._interactive_probing import InteractiveProbing as InteractiveProbing
from wsl.encoders._learned_validation_set import (
    LearnedValidationSet as LearnedValidationSet,
)
from wsl.encoders._low_rank import LowRank as LowRank
from wsl.encoders._probing import Probing as Probing
from wsl.encoders._scale_graph import ScaleEquivariantGraph as ScaleEquivariantGraph
from wsl.encoders._statistics import Statistics as Statistics
from wsl.encoders._transformer import Transformer as Transformer

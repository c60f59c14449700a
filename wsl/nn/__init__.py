"""Layers on weight features that commute with the group of a weight space.

Weight features are the leaves of a weight space with one more axis, last: channels.
`EquivariantLinear` is the linear layer, `InvariantPool` reduces features to a vector,
`GraphNetwork` passes messages on the graph that a space describes; the rest goes
between.
"""

from wsl.nn._activation import Pointwise as Pointwise
from wsl.nn._attention import WeightSpaceAttention as WeightSpaceAttention
from wsl.nn._dropout import ChannelDropout as ChannelDropout
from wsl.nn._encoding import IndexEncoding as IndexEncoding
from wsl.nn._features import lift as lift, lower as lower
from wsl.nn._fourier import GaussianFourierFeatures as GaussianFourierFeatures
from wsl.nn._graph import (
    canonicalise as canonicalise,
    Containment as Containment,
    ForwardSweep as ForwardSweep,
    GraphFeatures as GraphFeatures,
    GraphInput as GraphInput,
    GraphNetwork as GraphNetwork,
    GraphOutput as GraphOutput,
    Incidence as Incidence,
    MessagePassing as MessagePassing,
    NodeSet as NodeSet,
    ParameterGraph as ParameterGraph,
    RescaleEquivariant as RescaleEquivariant,
    ScaleEncoding as ScaleEncoding,
    ScaleEquivariantMLP as ScaleEquivariantMLP,
    ScaleGraphFeatures as ScaleGraphFeatures,
    ScaleGraphInput as ScaleGraphInput,
    ScaleGraphNetwork as ScaleGraphNetwork,
    ScaleGraphOutput as ScaleGraphOutput,
    ScaleInvariantMLP as ScaleInvariantMLP,
    ScaleInvariantPool as ScaleInvariantPool,
    ScaleKind as ScaleKind,
    ScaleMessagePassing as ScaleMessagePassing,
    ScaleSymmetry as ScaleSymmetry,
    SinePhases as SinePhases,
)
from wsl.nn._layer_encoding import LayerEncoding as LayerEncoding
from wsl.nn._linear import EquivariantLinear as EquivariantLinear
from wsl.nn._norm import ChannelNorm as ChannelNorm, LeafNorm as LeafNorm
from wsl.nn._pool import InvariantPool as InvariantPool
from wsl.nn._residual import ResidualEdit as ResidualEdit
from wsl.nn._signed_log import SignedLog as SignedLog
from wsl.nn._standardize import Standardize as Standardize
from wsl.nn._transformer import (
    WeightSpaceTransformerBlock as WeightSpaceTransformerBlock,
)

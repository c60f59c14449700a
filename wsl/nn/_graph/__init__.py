"""Message passing on the graph of a network's parameters.

Every index set of a space is a set of nodes, every leaf a block of edges. The `scale`
modules also commute with scales and signs of units.
"""

from wsl.nn._graph._forward import ForwardSweep as ForwardSweep
from wsl.nn._graph._message_passing import (
    GraphNetwork as GraphNetwork,
    MessagePassing as MessagePassing,
)
from wsl.nn._graph._parameter_graph import (
    Containment as Containment,
    GraphFeatures as GraphFeatures,
    Incidence as Incidence,
    NodeSet as NodeSet,
    ParameterGraph as ParameterGraph,
)
from wsl.nn._graph._phases import SinePhases as SinePhases
from wsl.nn._graph._scale_message_passing import (
    ScaleGraphNetwork as ScaleGraphNetwork,
    ScaleMessagePassing as ScaleMessagePassing,
)
from wsl.nn._graph._scale_mlp import (
    canonicalise as canonicalise,
    RescaleEquivariant as RescaleEquivariant,
    ScaleEquivariantMLP as ScaleEquivariantMLP,
    ScaleInvariantMLP as ScaleInvariantMLP,
)
from wsl.nn._graph._scale_pool import ScaleInvariantPool as ScaleInvariantPool
from wsl.nn._graph._scale_states import (
    ScaleEncoding as ScaleEncoding,
    ScaleGraphFeatures as ScaleGraphFeatures,
    ScaleGraphInput as ScaleGraphInput,
    ScaleGraphOutput as ScaleGraphOutput,
)
from wsl.nn._graph._scale_symmetry import (
    ScaleKind as ScaleKind,
    ScaleSymmetry as ScaleSymmetry,
)
from wsl.nn._graph._states import (
    GraphInput as GraphInput,
    GraphOutput as GraphOutput,
)

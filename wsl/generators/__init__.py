"""Generators: a context in, the weights of a network out.

`SliceHyperNetwork` writes each weight matrix slice by slice, `ChunkedHyperNetwork` the
flat vector of weights chunk by chunk, `MLPHyperNetwork` all at once; `LatentGenerator`
writes different networks for the same context.
"""

from wsl.generators._chunked import ChunkedHyperNetwork as ChunkedHyperNetwork
from wsl.generators._distances import (
    AnswerDistance as AnswerDistance,
    WeightDistance as WeightDistance,
)
from wsl.generators._generator import AbstractGenerator as AbstractGenerator
from wsl.generators._latent import (
    LatentGenerator as LatentGenerator,
    LatentNormal as LatentNormal,
)
from wsl.generators._mlp import MLPHyperNetwork as MLPHyperNetwork
from wsl.generators._slice import SliceHyperNetwork as SliceHyperNetwork
from wsl.generators._slices import LeafSlices as LeafSlices

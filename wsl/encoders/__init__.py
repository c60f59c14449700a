"""Encoders: the weights of a network in, a vector out.

`Flat` reads every weight; `Probing` reads what the network answers to learned inputs.
"""

from wsl.encoders._encoder import AbstractEncoder as AbstractEncoder
from wsl.encoders._flat import Flat as Flat
from wsl.encoders._probing import Probing as Probing

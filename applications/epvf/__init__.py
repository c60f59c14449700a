"""Explicit policy-conditioned value functions: V(θ), and policies that ascend it.

``python -m applications.epvf.train`` trains, ``python -m applications.epvf.evaluate``
replays. The algorithm is in `algorithm`, its settings are in `config`.
"""

"""Reinforcement learning on policy weights, built on `wsl`.

Run from a checkout: ``python -m applications.epvf.train``. Data flow one way::

    envs -> rollout -> archive of (weights, return) -> value function -> policy step
"""

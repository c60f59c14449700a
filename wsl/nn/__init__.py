"""Layers on weight features that commute with the group of a weight space.

Weight features are the leaves of a weight space with one more axis, last: channels.
"""

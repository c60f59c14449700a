"""Ways in from other libraries, and out again. Not imported by `wsl`.

`wsl.interop.torch` takes a `torch.nn.Module`; `wsl.interop.files` reads and writes
weights by name. Flax and Haiku need nothing: their weights are pytrees.
"""

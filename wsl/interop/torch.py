"""From a `torch.nn.Module` to a function of its weights, their space, and back.

Needs torch and torchax, which runs PyTorch's operators in JAX: tested with torch 2.13.0
and torchax 0.0.13.
"""

import contextlib
import copy
import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from wsl._infer import infer_weight_space
from wsl._space import WeightSpace


@dataclasses.dataclass(frozen=True)
class TorchModel:
    """A module of PyTorch as a function of its weights.

    Attributes:
        fn: From weights and inputs, as arrays of JAX, to the module's output.
        weights: The parameters by name, and the running statistics of batch norms.
            Parameters that are one tensor under several names have the first of them.
        space: Their space.
        aliases: For names of a parameter that is another, the name that it has here.
    """

    fn: Callable[..., Any]
    weights: dict[str, Array]
    space: WeightSpace
    aliases: dict[str, str]
    _module: Any = dataclasses.field(repr=False)

    def load(self, state: Mapping[str, Any]) -> dict[str, Array]:
        """The weights of another module of the same form.

        Args:
            state: Its `state_dict()`, or arrays under the same names, as
                [`load`][wsl.interop.files.load] reads them.

        Returns:
            Weights for `fn` and `space`.

        Raises:
            ValueError: If a name is missing, or a shape is another.
        """
        missing = [name for name in self.weights if name not in state]
        if missing:
            raise ValueError(f"The state lacks {missing}.")
        found = {name: _to_jax(state[name]) for name in self.weights}
        for name, array in found.items():
            if array.shape != self.weights[name].shape:
                raise ValueError(
                    f"{name!r} has shape {array.shape}; this module has "
                    f"{self.weights[name].shape}."
                )
        return found

    def state_dict(self, weights: Mapping[str, Array]) -> dict[str, Any]:
        """Weights as a state dict: tensors under all names, buffers as they were.

        Args:
            weights: Weights of `space`.

        Returns:
            What `module.load_state_dict` takes.

        Raises:
            ValueError: If the weights are not of the space.
        """
        self.space.weight_leaves(dict(weights))
        state = self._module.state_dict()
        for name, tensor in state.items():
            own = self.aliases[name] if name in self.aliases else name
            if own in weights:
                state[name] = _to_torch(weights[own]).to(tensor.dtype)
        return state

    def to_module(self, weights: Mapping[str, Array]) -> Any:
        """A module of PyTorch with these weights, the given one left as it is.

        Args:
            weights: Weights of `space`.

        Returns:
            A copy of the module that was given.
        """
        module = copy.deepcopy(self._module)
        module.load_state_dict(self.state_dict(weights))
        return module


def from_torch(
    module: Any, *inputs: Any, output: Callable[[Any], Any] | None = None
) -> TorchModel:
    """Takes in a module of PyTorch, and finds the symmetries of its weights.

    Weights are the parameters, and the running statistics of batch norms, which move
    with the units. Other buffers (rotary frequencies, position numbers, masks) are
    constants: a state dict with these permuted would mean something else. A parameter
    under several names (tied embeddings) is one leaf. The module is run as it is in
    evaluation.

    Args:
        module: The module. It is not changed.
        *inputs: What its `forward` takes: tensors, or arrays. Only shapes and dtypes
            matter.
        output: What to keep of the module's output, where it is more than one tensor:
            `lambda out: out.logits` for most models of `transformers`. Unless given,
            all tensors in it.

    Returns:
        The function, its weights, their space, and the way back.

    Raises:
        ValueError: If torch or torchax is not installed, or the module cannot be run.
    """
    torchax = _torchax()
    module = copy.deepcopy(module).eval()
    owners: dict[int, str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in module.named_parameters(remove_duplicate=False):
        first = owners.setdefault(id(tensor), name)
        if first != name:
            aliases[name] = first
    names = [*owners.values(), *_statistics(module)]
    buffers = {
        name: _to_jax(tensor)
        for name, tensor in module.named_buffers()
        if name not in names
    }
    state = dict(module.named_parameters()) | dict(module.named_buffers())
    weights = {name: _to_jax(state[name].detach()) for name in sorted(names)}
    environment = torchax.default_env()

    def fn(weights: Mapping[str, Array], *inputs: Any) -> Any:
        torch = _torch()
        # Ties are kept: other names of a parameter get what the first one has.
        every = {**buffers, **weights}

        with environment:
            view = torchax.interop.torch_view
            # PyTorch's dtypes meet as PyTorch has it.
            with torch.no_grad(), jax.numpy_dtype_promotion("standard"):
                with jax.numpy_rank_promotion("allow"):
                    result = torch.func.functional_call(
                        module, view(every), view(inputs), strict=False
                    )
                    result = result if output is None else output(result)
                    return torchax.interop.jax_view(_tensors(result))

    example = tuple(map(_to_jax_tree, inputs))
    space = infer_weight_space(fn, weights, *example)
    return TorchModel(fn, weights, space, aliases, module)


def _tensors(result: Any) -> Any:
    """What is a tensor in an output, which may be a mapping of a class of its own."""
    if hasattr(result, "items"):
        return {name: _tensors(x) for name, x in result.items() if x is not None}
    if isinstance(result, list | tuple):
        return tuple(_tensors(x) for x in result)
    return result


def _statistics(module: Any) -> list[str]:
    """Names of running means and variances of norms over a batch."""
    return [
        f"{prefix}.{name}".lstrip(".")
        for prefix, one in module.named_modules()
        for name in ("running_mean", "running_var")
        if getattr(one, name, None) is not None
    ]


def _to_jax(tensor: Any) -> Array:
    """A tensor, or an array, as an array of JAX, bit for bit."""
    if isinstance(tensor, jax.Array | np.ndarray):
        return jnp.asarray(tensor)
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        return jnp.asarray(tensor.float().numpy(), jnp.bfloat16)
    array = tensor.numpy()
    return jnp.asarray(array, jax.dtypes.canonicalize_dtype(array.dtype))


def _to_jax_tree(value: Any) -> Any:
    if hasattr(value, "detach") or isinstance(value, jax.Array | np.ndarray):
        return _to_jax(value)
    return value


def _to_torch(array: Any) -> Any:
    torch = _torch()
    array = np.asarray(array)
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(array))


def _torch() -> Any:
    return importlib.import_module("torch")


def _torchax() -> Any:
    try:
        _torch()
        with _missing_overloads():
            torchax: Any = importlib.import_module("torchax")
            torchax.default_env()  # Registers operators.
            return torchax
    except ImportError as error:
        raise ValueError(
            "Modules of PyTorch need torch and torchax: `pip install torch torchax`; "
            f"tested with torch 2.13.0 and torchax 0.0.13. ({error})"
        ) from error


@contextlib.contextmanager
def _missing_overloads() -> Iterator[None]:
    """Lets torchax name operators' overloads that this torch does not have.

    torchax 0.0.13 registers implementations of operators on named tensors, such as
    `aten.prod.dim_Dimname`, which torch 2.13 has no more. Nothing calls such an
    operator, so anything may stand in for it while torchax is loaded.
    """
    packet = _torch()._ops.OpOverloadPacket
    original = packet.__getattr__

    def get(self: Any, name: str) -> Any:
        try:
            return original(self, name)
        except AttributeError:
            if name.startswith("_"):
                raise
            return _Missing(self, name)

    packet.__getattr__ = get
    try:
        yield
    finally:
        packet.__getattr__ = original


class _Missing:
    """Stands for an overload that is not there."""

    def __init__(self, packet: Any, name: str):
        self.packet, self.name = packet, name

"""Policies for programs without JAX: arrays for NumPy, and a graph for ONNX."""

import importlib
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
from jaxtyping import Float

from applications.envs import Continuous
from applications.policies._mlp import MLPPolicy
from applications.policies._policy import AbstractPolicy


# Of ONNX's operators; all that are used are in it.
_OPSET = 17


def export_arrays(file: BinaryIO, policy: AbstractPolicy) -> None:
    """Writes a perceptron as an `.npz` file of NumPy.

    It has `weight_0`, `bias_0`, `weight_1` ... of the layers, in order, weights as
    `(outputs, inputs)`; `activation`, the name of what hidden units are; and `kind`,
    `discrete` or `continuous`. Of continuous actions also `low` and `high`, the box,
    `bound`, what brings the last layer into it (`tanh` or `clip`), and `levels`, 0 for
    actions that are not rounded.

    Args:
        file: Open for writing, in binary mode.
        policy: The policy, of observations as they are.

    Raises:
        ValueError: If it is no `MLPPolicy`.
    """
    np.savez(file, **_arrays(policy))


def export_onnx(file: BinaryIO, policy: AbstractPolicy) -> None:
    """Writes a perceptron as an ONNX model.

    Its input `observation` is of shape `(batch, observation)`, in single precision; its
    output `action` of shape `(batch, action)`, or, of discrete actions, `(batch,)`, the
    numbers of the actions.

    Args:
        file: Open for writing, in binary mode.
        policy: The policy, of observations as they are.

    Raises:
        ValueError: If it is no `MLPPolicy`.
        ImportError: If `onnx` is not installed.
    """
    arrays = _arrays(policy)
    onnx: Any = importlib.import_module("onnx")
    helper, numbers = onnx.helper, onnx.TensorProto
    layers = _layers(arrays)
    nodes, constants = [], []

    def constant(name: str, value: Any) -> str:
        array = np.asarray(value, np.float32)
        constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def node(kind: str, inputs: list[str], output: str, **options: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **options))
        return output

    x = "observation"
    for i, (weight, bias) in enumerate(layers):
        inputs = [x, constant(f"weight_{i}", weight), constant(f"bias_{i}", bias)]
        x = node("Gemm", inputs, f"layer_{i}", transB=1)
        if i == len(layers) - 1:
            break
        match str(arrays["activation"]):
            case "tanh":
                x = node("Tanh", [x], f"hidden_{i}")
            case "relu":
                x = node("Relu", [x], f"hidden_{i}")
            case "swish":
                gate = node("Sigmoid", [x], f"gate_{i}")
                x = node("Mul", [x, gate], f"hidden_{i}")
    if arrays["kind"] == "discrete":
        node("ArgMax", [x], "action", axis=1, keepdims=0)
        action = helper.make_tensor_value_info("action", numbers.INT64, ["batch"])
    else:
        _bounded_nodes(x, arrays, constant, node)
        shape = ["batch", len(arrays["low"])]
        action = helper.make_tensor_value_info("action", numbers.FLOAT, shape)
    shape = ["batch", layers[0][0].shape[1]]
    observation = helper.make_tensor_value_info("observation", numbers.FLOAT, shape)
    graph = helper.make_graph(nodes, "policy", [observation], [action], constants)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=10,
        producer_name="wsl",
    )
    onnx.checker.check_model(model)
    file.write(model.SerializeToString())


def run_arrays(
    path: Path, observations: Float[np.ndarray, "batch observation"]
) -> np.ndarray:
    """Acts as an `.npz` file of `export_arrays` says, in NumPy alone.

    Args:
        path: The file.
        observations: Observations, one a row.

    Returns:
        Actions, one a row, or the numbers of discrete ones.
    """
    with np.load(path) as arrays:
        layers = _layers(arrays)
        x = observations
        for i, (weight, bias) in enumerate(layers):
            x = x @ weight.T + bias
            if i < len(layers) - 1:
                match str(arrays["activation"]):
                    case "tanh":
                        x = np.tanh(x)
                    case "relu":
                        x = np.maximum(x, 0)
                    case "swish":
                        x = x / (1 + np.exp(-x))
        if arrays["kind"] == "discrete":
            return np.argmax(x, axis=1)
        low, high, levels = arrays["low"], arrays["high"], int(arrays["levels"])
        if arrays["bound"] == "tanh":
            x = (low + high) / 2 + (high - low) / 2 * np.tanh(x)
        x = np.clip(x, low, high)
        if levels:
            parts = levels - 1
            x = low + (high - low) * np.round((x - low) / (high - low) * parts) / parts
        return x


def _arrays(policy: AbstractPolicy) -> dict[str, Any]:
    """What an `.npz` file holds."""
    if not isinstance(policy, MLPPolicy):
        raise ValueError(
            f"Only perceptrons can be exported; this policy is a "
            f"{type(policy).__name__}."
        )
    arrays: dict[str, Any] = {}
    whole: Any = policy.whole
    for i, layer in enumerate(whole.layers):
        arrays[f"weight_{i}"] = np.asarray(jax.device_get(layer.weight))
        arrays[f"bias_{i}"] = np.asarray(jax.device_get(layer.bias))
    arrays["activation"] = policy.activation
    space = policy.action_space
    if not isinstance(space, Continuous):
        return arrays | {"kind": "discrete"}
    return arrays | {
        "kind": "continuous",
        "low": np.asarray(space.low, np.float32),
        "high": np.asarray(space.high, np.float32),
        "bound": policy.bound,
        "levels": space.levels or 0,
    }


def _layers(arrays: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases, in order."""
    count = sum(name.startswith("weight_") for name in arrays)
    return [(arrays[f"weight_{i}"], arrays[f"bias_{i}"]) for i in range(count)]


def _bounded_nodes(x: str, arrays: dict[str, Any], constant: Any, node: Any) -> None:
    """From the last layer to actions inside the box, perhaps rounded."""
    low, high, levels = arrays["low"], arrays["high"], arrays["levels"]
    if arrays["bound"] == "tanh":
        x = node("Tanh", [x], "squashed")
        x = node("Mul", [x, constant("half", (high - low) / 2)], "scaled")
        x = node("Add", [x, constant("middle", (low + high) / 2)], "moved")
    above = node("Max", [x, constant("low", low)], "above")
    last = "inside" if levels else "action"
    x = node("Min", [above, constant("high", high)], last)
    if levels:
        parts = levels - 1
        x = node("Sub", [x, "low"], "from_low")
        x = node("Mul", [x, constant("parts", parts / (high - low))], "in_parts")
        x = node("Round", [x], "rounded")
        x = node("Mul", [x, constant("part", (high - low) / parts)], "of_range")
        node("Add", [x, "low"], "action")

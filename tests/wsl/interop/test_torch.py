"""Modules of PyTorch: their weights, symmetries, and the way back."""

import importlib.util
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wsl
from tests.wsl.helpers import draw_element


if any(importlib.util.find_spec(name) is None for name in ("torch", "torchax")):
    pytest.skip("needs torch and torchax", allow_module_level=True)

import torch  # pyright: ignore[reportMissingImports]

from wsl.interop.torch import from_torch


def _state(module, seed):
    """Other numbers for everything, running variances positive."""
    random = np.random.default_rng(seed)
    state = {}
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            state[name] = tensor
            continue
        numbers = 0.4 * random.standard_normal(tuple(tensor.shape))
        numbers = np.abs(numbers) + 0.5 if "running_var" in name else numbers
        state[name] = torch.tensor(numbers, dtype=tensor.dtype)
    return state


def _check(module, *inputs, sizes, output=None):
    """That outputs agree with those of PyTorch, permuted or not; and the groups."""
    module.load_state_dict(_state(module, 0))
    module.eval()
    imported = from_torch(module, *inputs, output=output)
    assert sorted(imported.space.groups.values()) == sorted(sizes), imported.space
    assert imported.space.unknown_primitives == ()

    def run(module):
        with torch.no_grad():
            out = module(*inputs)
        out = out if output is None else output(out)
        return [x.numpy() for x in (out if isinstance(out, tuple) else (out,))]

    expected = run(module)
    given = [jnp.asarray(x.numpy()) for x in inputs]
    found = jax.tree.leaves(imported.fn(imported.weights, *given))
    for x, y in zip(found[:1], expected[:1], strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)
    element = draw_element(imported.space, 1)
    moved = imported.space.permute(imported.weights, element)
    other = imported.to_module(moved)
    assert any(
        not torch.equal(x, y)
        for x, y in zip(other.parameters(), module.parameters(), strict=True)
    )
    np.testing.assert_allclose(run(other)[0], expected[0], atol=1e-4)
    match = wsl.match_weights(
        imported.space,
        imported.weights,
        imported.load(other.state_dict()),
        key=jax.random.key(0),
    )
    assert match.distance_before > 0.1 > 1e-4 > match.distance
    return imported


class _Residual(torch.nn.Module):
    """A small ResNet: a stem, a block with batch norms, a head."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.first = torch.nn.Conv2d(4, 5, 3, padding=1, bias=False)
        self.inner = torch.nn.BatchNorm2d(5)
        self.second = torch.nn.Conv2d(5, 4, 3, padding=1)
        self.head = torch.nn.Linear(4, 2)
        self.register_buffer("frequencies", torch.arange(4.0))

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.second(torch.relu(self.inner(self.first(x))))
        return self.head(x.mean((2, 3)))


def test_perceptron():
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2)
    )
    imported = _check(module, torch.randn(4, 3), sizes=[5])
    assert list(imported.weights) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    with pytest.raises(ValueError, match=r"lacks \['2.weight'\]"):
        imported.load({k: v for k, v in imported.weights.items() if k != "2.weight"})
    wrong = {**imported.weights, "0.bias": jnp.ones(4)}
    with pytest.raises(ValueError, match=r"'0.bias' has shape \(4,\)"):
        imported.load(wrong)


def test_running_statistics_are_weights_and_other_buffers_are_not():
    imported = _check(_Residual(), torch.randn(2, 3, 6, 6), sizes=[4, 5])
    assert "norm.running_mean" in imported.weights
    assert "frequencies" not in imported.weights
    state = imported.state_dict(imported.weights)
    assert set(state) == set(_Residual().state_dict())


def test_tied_parameters_are_one_leaf():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(7, 4)
            self.up = torch.nn.Linear(4, 5)
            self.down = torch.nn.Linear(5, 4)
            self.head = torch.nn.Linear(4, 7, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens):
            x = self.table(tokens)
            return self.head(x + self.down(torch.relu(self.up(x))))

    module = Tied()
    imported = from_torch(module, torch.tensor([1, 2, 3]))
    assert sorted(imported.space.groups.values()) == [4, 5]
    assert imported.aliases == {"head.weight": "table.weight"}
    state = imported.state_dict(imported.weights)
    assert torch.equal(state["head.weight"], state["table.weight"])
    imported.to_module(imported.weights)


@pytest.mark.parametrize("first", [True, False])
def test_fused_attention_has_its_whole_group(first):
    layer = torch.nn.TransformerEncoderLayer(
        6, 2, 5, batch_first=True, norm_first=first
    )
    module = torch.nn.Sequential(torch.nn.Linear(3, 6), layer, torch.nn.Linear(6, 2))
    # The stream, heads, queries with keys and values with outputs in each, hidden.
    _check(module, torch.randn(2, 4, 3), sizes=[6, 2, 3, 3, 5])


def test_recurrent_layers():
    class Recurrent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 4, num_layers=2, batch_first=True)
            self.head = torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    _check(Recurrent(), torch.randn(2, 5, 3), sizes=[4, 4])


def test_two_state_dicts_to_one_that_evaluates():
    """Matched by weights, on two copies: the mean is the network."""
    resnet = _Residual().eval()
    first = _state(resnet, 0)
    resnet.load_state_dict(first)
    images = torch.randn(8, 3, 6, 6)
    imported = from_torch(resnet, torch.zeros(1, 3, 6, 6))
    a = imported.load(first)
    second = imported.state_dict(
        imported.space.permute(a, draw_element(imported.space, 3))
    )
    assert not torch.equal(first["first.weight"], second["first.weight"])
    b = imported.load(second)
    left_out = {
        leaf.path: 0.0 for leaf in imported.space.leaves if "running_" in leaf.path
    }
    match = wsl.match_weights(
        imported.space, a, b, key=jax.random.key(0), leaf_weights=left_out
    )
    merged = imported.to_module(wsl.matching.average([a, match.aligned]))
    naive = imported.to_module(wsl.matching.average([a, b]))
    with torch.no_grad():
        expected = resnet(images)
        np.testing.assert_allclose(merged(images), expected, atol=1e-4)
        assert (naive(images) - expected).abs().max() > 1e-2
        # Statistics are measured anew by PyTorch itself.
        for norm in merged.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.reset_running_stats()
                norm.momentum = None
        merged.train()
        merged(images)
        merged.eval()
        assert torch.isfinite(merged(images)).all()
        batch = torch.nn.functional.conv2d(
            images, merged.stem.weight, merged.stem.bias, padding=1
        )
        np.testing.assert_allclose(
            merged.norm.running_mean, batch.mean((0, 2, 3)), atol=1e-4
        )


def _digits():
    """Images and labels in batches, to train on and to test on."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images = torch.tensor(images[order].reshape(-1, 1, 8, 8) / 8 - 1).float()
    images = torch.nn.functional.interpolate(
        images.expand(-1, 3, -1, -1), scale_factor=4, mode="bilinear"
    )
    labels = torch.tensor(labels[order])
    batches = list(zip(images.split(100), labels.split(100), strict=True))
    return batches[:14], batches[14:]


def _train(module, batches):
    torch.set_num_threads(1)  # Threads wait for one another where cores are busy.
    optimiser = torch.optim.AdamW(module.parameters(), 1e-3)
    for _ in range(8):
        for i in torch.randperm(len(batches)):
            images, labels = batches[i]
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(images), labels).backward()
            optimiser.step()
    return module.eval()


def _accuracy(module, batches):
    with torch.no_grad():
        right = [(module(x).argmax(1) == y).float() for x, y in batches]
    return float(torch.cat(right).mean())


@pytest.mark.nightly
def test_the_page_merges_two_resnets(tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")  # Beside the model in its module.
    resnet18 = importlib.import_module("benchmarks._foreign_torch").ResNet18
    page = Path(__file__).parents[3] / "docs" / "foreign.md"
    section = page.read_text().split("\n## PyTorch\n")[1]
    (block, *_) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.M)
    assert len(block.strip().splitlines()) <= 25
    monkeypatch.chdir(tmp_path)
    train, test = _digits()
    for seed, name in enumerate(("first.pt", "second.pt")):
        torch.manual_seed(seed)
        module = _train(resnet18(16), train)
        assert _accuracy(module, test) > 0.9
        torch.save(module.state_dict(), name)
    names = {"resnet": resnet18(16), "train_loader": train, "test_loader": test}
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exec(compile(block, "foreign.md", "exec"), names)
    assert float(capsys.readouterr().out.removeprefix("accuracy")) > 0.5
    # Control: as they are, with the statistics of their mean.
    naive = names["imported"].to_module(names["average"]([names["a"], names["b"]]))
    for norm in naive.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
    naive.train()
    _accuracy(naive, train)
    assert _accuracy(naive.eval(), test) < 0.3

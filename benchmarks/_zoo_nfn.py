"""Runs under a Python with `torch` and `nfn`: that package's encoders on a zoo.

Reads networks, targets and settings from an .npz file, writes predictions to another.
"""

import argparse
import json
import math
import time

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from nfn.common import (  # pyright: ignore[reportMissingImports]
    network_spec_from_wsfeat,
    WeightSpaceFeatures,
)
from nfn.layers import (  # pyright: ignore[reportMissingImports]
    GaussianFourierFeatureTransform,
    HNPLinear,
    HNPPool,
    IOSinusoidalEncoding,
    NPLinear,
    NPPool,
    TupleOp,
)
from torch import nn  # pyright: ignore[reportMissingImports]


CHANNELS, LAYERS = 32, 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--kind", choices=["NP", "HNP"], required=True)
    parser.add_argument("--fourier", action="store_true")
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    data = np.load(arguments.file)
    settings = json.loads(str(data["settings"]))
    began = time.perf_counter()
    train = _features(data, "train")
    normalise = _Normaliser(train, settings["signed_log"])
    train = normalise(train)
    targets = torch.from_numpy(data["targets"])
    if settings["kind"] == "classification":
        targets, out_size = targets.long(), 10
    else:
        out_size = targets.shape[1]
    model = _Model(_part(train, slice(0, 2)), arguments, out_size, settings)
    model.standardise(train)
    _fit(model, train, targets, settings, np.random.default_rng(arguments.seed))
    seconds = time.perf_counter() - began
    model.eval()
    np.savez(
        arguments.out,
        test=_predict(model, normalise(_features(data, "test"))),
        out_of_range=_predict(model, normalise(_features(data, "out_of_range"))),
        seconds=seconds,
        parameters=sum(p.numel() for p in model.parameters()),
    )


def _predict(model: "_Model", features: WeightSpaceFeatures) -> np.ndarray:
    count = len(features.weights[0])
    with torch.no_grad():
        parts = [model(_part(features, slice(i, i + 64))) for i in range(0, count, 64)]
    return torch.cat(parts).numpy()


def _features(data, split: str) -> WeightSpaceFeatures:
    depth = sum(name.startswith(f"{split}|w") for name in data.files)

    def read(name: str) -> list[torch.Tensor]:
        # One channel, first.
        names = [f"{split}|{name}{i}" for i in range(depth)]
        return [torch.from_numpy(data[each][:, None]) for each in names]

    return WeightSpaceFeatures(read("w"), read("b"))


def _part(features: WeightSpaceFeatures, index) -> WeightSpaceFeatures:
    return WeightSpaceFeatures(
        [w[index] for w in features.weights], [b[index] for b in features.biases]
    )


class _Normaliser:
    """Signed logarithm where asked for, then one mean and deviation a tensor."""

    def __init__(self, train: WeightSpaceFeatures, signed_log: bool):
        self._signed_log = signed_log
        train = self._log(train)
        self._weights = [(w.mean(), w.std() + 1e-6) for w in train.weights]
        self._biases = [(b.mean(), b.std() + 1e-6) for b in train.biases]

    def _log(self, features: WeightSpaceFeatures) -> WeightSpaceFeatures:
        if not self._signed_log:
            return features
        return features.map(lambda x: torch.sign(x) * torch.log1p(torch.abs(x)))

    def __call__(self, features: WeightSpaceFeatures) -> WeightSpaceFeatures:
        features = self._log(features)
        pairs = zip(features.weights, self._weights, strict=True)
        weights = [(w - mean) / std for w, (mean, std) in pairs]
        pairs = zip(features.biases, self._biases, strict=True)
        biases = [(b - mean) / std for b, (mean, std) in pairs]
        return WeightSpaceFeatures(weights, biases)


class _Model(nn.Module):
    """Encodings, equivariant layers with ReLUs, invariant pool, perceptron."""

    def __init__(self, example: WeightSpaceFeatures, arguments, out_size, settings):
        super().__init__()
        spec = network_spec_from_wsfeat(example)
        is_np = arguments.kind == "NP"
        make, pool = (NPLinear, NPPool) if is_np else (HNPLinear, HNPPool)
        layers, channels = [], 1
        if arguments.fourier:
            layers.append(GaussianFourierFeatureTransform(spec, 1, 16, scale=3))
            channels = layers[-1].out_channels
        if is_np:
            layers.append(IOSinusoidalEncoding(spec))
            channels = layers[-1].num_out_chan(channels)
        for _ in range(LAYERS):
            layers += [make(spec, channels, CHANNELS), TupleOp(nn.ReLU())]
            channels = CHANNELS
        self.layers = nn.Sequential(*layers, pool(spec), nn.Flatten())
        size = CHANNELS * pool.get_num_outs(spec)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.dropout = nn.Dropout(settings["dropout"])
        # As our heads for regression: direction and length of the vector too.
        self.sees_scale = settings["kind"] == "regression"
        size = 2 * size + 1 if self.sees_scale else size
        self.head = nn.Sequential(
            nn.Linear(size, settings["width"]),
            nn.SiLU(),
            nn.Linear(settings["width"], out_size),
        )

    def standardise(self, train: WeightSpaceFeatures) -> None:
        """Measures the first vectors, as is done for ours."""
        count = len(train.weights[0])
        with torch.no_grad():
            parts = [
                self.layers(_part(train, slice(i, i + 256)))
                for i in range(0, count, 256)
            ]
        vectors = torch.cat(parts)
        self.mean, std = vectors.mean(0), vectors.std(0, correction=0)
        self.std = torch.where(std > 1e-6, std, torch.ones_like(std))

    def forward(self, features: WeightSpaceFeatures) -> torch.Tensor:
        vector = self.layers(features)
        read = self.dropout((vector - self.mean) / self.std)
        if self.sees_scale:
            square = vector.square().mean(1, keepdim=True) + 1e-8
            direction = vector * square.rsqrt()
            read = torch.cat([read, direction, square.log()], dim=1)
        return self.head(read)


def _fit(model: _Model, train, targets, settings, random) -> None:
    steps, warm = settings["steps"], max(settings["steps"] // 10, 1)
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
    )

    def rate(step: int) -> float:
        if step < warm:
            return step / warm
        return (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    loss_of = {
        "classification": lambda out, y: nn.functional.cross_entropy(out, y),
        "ranking": nn.functional.binary_cross_entropy_with_logits,
        "regression": nn.functional.mse_loss,
    }[settings["kind"]]
    for _ in range(steps):
        batch = random.integers(len(targets), size=settings["batch_size"])
        loss = loss_of(model(_part(train, batch)), targets[batch])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()


if __name__ == "__main__":
    main()

"""Models of PyTorch and of transformers, small and random, with their whole groups."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch  # pyright: ignore[reportMissingImports]
import transformers  # pyright: ignore[reportMissingImports]


class TorchCase(NamedTuple):
    """A model to take in.

    Attributes:
        make: Gives a module, its inputs, and what to keep of its output.
        groups: Sizes of the groups of its whole group, by hand.
        linear: The groups of linear maps, by hand, once gains are folded.
    """

    make: Callable[[], tuple[Any, tuple[Any, ...], Callable[[Any], Any] | None]]
    groups: tuple[int, ...]
    linear: tuple[str, ...] = ()


def _perceptron() -> Any:
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)
    )
    return module, (torch.randn(4, 3),), None


class _Block(torch.nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, into: int, out: int, stride: int):
        super().__init__()
        conv = torch.nn.Conv2d
        self.conv1 = conv(into, out, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(out)
        self.conv2 = conv(out, out, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(out)
        self.downsample = None
        if stride > 1 or into != out:
            self.downsample = torch.nn.Sequential(
                conv(into, out, 1, stride, bias=False), torch.nn.BatchNorm2d(out)
            )

    def forward(self, x: Any) -> Any:
        short = x if self.downsample is None else self.downsample(x)
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + short)


class ResNet18(torch.nn.Module):
    """ResNet-18 with torchvision's names, of any width."""

    def __init__(self, width: int = 16, classes: int = 10):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        self.maxpool = torch.nn.MaxPool2d(3, 2, 1)
        into = width
        for i in range(4):
            out = width * 2**i
            blocks = [_Block(into, out, 1 if i == 0 else 2), _Block(out, out, 1)]
            setattr(self, f"layer{i + 1}", torch.nn.Sequential(*blocks))
            into = out
        self.fc = torch.nn.Linear(into, classes)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


def _resnet() -> Any:
    return ResNet18(), (torch.randn(2, 3, 32, 32),), None


def _encoder(first: bool) -> Callable[[], Any]:
    def make() -> Any:
        layer = torch.nn.TransformerEncoderLayer(
            32, 4, 48, batch_first=True, norm_first=first
        )
        layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        module = torch.nn.Sequential(
            torch.nn.Linear(5, 32), layers, torch.nn.Linear(32, 3)
        )
        return module, (torch.randn(2, 6, 5),), None

    return make


class _Recurrent(torch.nn.Module):
    def __init__(self, kind: Any):
        super().__init__()
        self.cells = kind(5, 12, num_layers=2, batch_first=True)
        self.head = torch.nn.Linear(12, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.cells(x)[0][:, -1])


def _recurrent(kind: Any) -> Callable[[], Any]:
    return lambda: (_Recurrent(kind), (torch.randn(2, 4, 5),), None)


_TOKENS = torch.tensor([[1, 5, 2, 7, 3]])


def _bert() -> Any:
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=16,
        num_labels=3,
    )
    module = transformers.BertForSequenceClassification(config)
    return module, (_TOKENS,), lambda out: out.logits


def _vit() -> Any:
    config = transformers.ViTConfig(
        image_size=16,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        num_labels=3,
    )
    module = transformers.ViTForImageClassification(config)
    return module, (torch.randn(1, 3, 16, 16),), lambda out: out.logits


def _llama() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=16,
    )
    module = transformers.LlamaForCausalLM(config)
    return module, (_TOKENS,), lambda out: out.logits


def _gpt2() -> Any:
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=4, n_inner=48
    )
    module = transformers.GPT2LMHeadModel(config)
    return module, (_TOKENS,), lambda out: out.logits


# Of a layer of attention: heads, queries with keys and values with outputs in each.
_ATTENTION = (4, 8, 8)
# Both of them, of two layers; norms that take off the mean leave the stream alone.
_HEADS = ("GL(8) in 4",) * 4

TORCH_CASES: dict[str, TorchCase] = {
    "torch MLP": TorchCase(_perceptron, (16,)),
    "torch ResNet-18, BatchNorm, width 16": TorchCase(
        _resnet, (16, 16, 16, 32, 32, 32, 64, 64, 64, 128, 128, 128)
    ),
    "torch TransformerEncoder, norms first": TorchCase(
        _encoder(True), (*(_ATTENTION + (48,)) * 2, 32), _HEADS
    ),
    "torch TransformerEncoder, norms last": TorchCase(
        _encoder(False), (*(_ATTENTION + (48,)) * 2, 32), _HEADS
    ),
    "torch LSTM, two layers": TorchCase(_recurrent(torch.nn.LSTM), (12, 12)),
    "torch GRU, two layers": TorchCase(_recurrent(torch.nn.GRU), (12, 12)),
    # The pooler's units are a group of their own.
    "transformers BERT, classifier": TorchCase(
        _bert, (*(_ATTENTION + (48,)) * 2, 32, 32), _HEADS
    ),
    "transformers ViT": TorchCase(_vit, (*(_ATTENTION + (48,)) * 2, 32), _HEADS),
    # Heads of keys, queries in each, values in each; rotary frequencies fix the rest.
    "transformers Llama, grouped queries": TorchCase(
        _llama,
        (*((2, 2, 8, 48) * 2), 32),
        ("O(32)", *("GL(8) in 2", "C* in 8") * 2),
    ),
    "transformers GPT-2": TorchCase(_gpt2, (*(_ATTENTION + (48,)) * 2, 32), _HEADS),
}

"""Policy files: there and back, damaged, foreign, and made up."""

import hashlib
import io
import json
import pickle
import tempfile
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import ActionSpace, make
from applications.policies import (
    AbstractPolicy,
    Activation,
    MLPPolicy,
    read_policy,
    write_policy,
)


class Pair(AbstractPolicy):
    """Preferences by a matrix and its offsets."""

    matrix: jax.Array
    offsets: jax.Array
    action_space: ActionSpace = eqx.field(static=True)

    def __init__(self, task, hidden, *, key):
        shape = (task.action_space.output_size, task.observation_size)
        self.matrix = jax.random.normal(key, shape)
        self.offsets = jnp.full(shape[0], float(sum(hidden)))
        self.action_space = task.action_space

    def __call__(self, observation, *, key=None):
        return self.matrix @ observation + self.offsets

    def fold_standardisation(self, mean, std):
        return self


def _content(policy, **options) -> bytes:
    options = {"task": "cartpole", "task_options": {"horizon": 30}} | options
    with tempfile.TemporaryFile() as file:
        write_policy(file, policy, **options)
        file.seek(0)
        return file.read()


def _mlp(hidden=(3, 2), **options):
    return MLPPolicy(make("cartpole"), hidden, key=jax.random.key(7), **options)


@pytest.fixture
def read(tmp_path):
    """From a file's content to task and policy."""

    def read(content: bytes) -> tuple[Any, Any]:
        path = tmp_path / "policy.eqx"
        path.write_bytes(content)
        return read_policy(path)

    return read


@pytest.fixture
def complaint(read, tmp_path):
    """From a file's content to what is said of it, after the file's name."""

    def complain(content: bytes) -> str:
        with pytest.raises(ValueError) as caught:
            read(content)
        text, name = str(caught.value), f"{tmp_path / 'policy.eqx'} "
        assert text.startswith(name) and "\n" not in text
        return text.removeprefix(name)

    return complain


def _with_header(content: bytes, **changes: Any) -> bytes:
    """A file whose checksum fits, so that only its content can be at fault."""
    _, line, weights = content.split(b"\n", 2)
    header = {k: v for k, v in (json.loads(line) | changes).items() if v is not None}
    return _signed(json.dumps(header).encode() + b"\n" + weights)


def _signed(body: bytes) -> bytes:
    first = {"format": "wsl-policy 2", "sha256": hashlib.sha256(body).hexdigest()}
    return json.dumps(first).encode() + b"\n" + body


@pytest.mark.parametrize("hidden", [(), (3, 2)])
def test_there_and_back(read, hidden):
    written = _mlp(hidden)
    content = _content(written)
    task, policy = read(content)
    assert task == make("cartpole", horizon=30) and task.horizon == 30
    assert eqx.tree_equal(policy, written)
    first, header, weights = content.split(b"\n", 2)
    body = header + b"\n" + weights
    assert json.loads(first) == {
        "format": "wsl-policy 2",
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    assert json.loads(header) == {
        "task": "cartpole",
        "task_options": {"horizon": 30},
        "policy": "mlp",
        "options": {"hidden": list(hidden), "activation": "tanh", "bound": "tanh"},
        "dtype": "float32",
    }
    arrays = jax.tree.leaves(eqx.filter(written, eqx.is_array))
    flat = np.concatenate([np.ravel(x) for x in arrays])
    np.testing.assert_array_equal(np.frombuffer(weights, "<f4"), flat)


def test_a_policy_of_ones_own(read):
    task = make("cartpole")
    written = Pair(task, (2, 3), key=jax.random.key(1))
    content = _content(written, factory=f"{__name__}:Pair", hidden=(2, 3))
    _, policy = read(content)
    assert isinstance(policy, Pair) and eqx.tree_equal(policy, written)
    with pytest.raises(ValueError, match="name the factory"):
        _content(written)
    with pytest.raises(ValueError, match="hidden is missing"):
        _content(written, factory=f"{__name__}:Pair")


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_the_dtype_is_kept_in_any_mode(read, dtype, x64):
    with jax.enable_x64(True):
        written = jax.tree.map(lambda x: jnp.asarray(x + 1 / 3, dtype), _mlp((2,)))
    content = _content(written)
    with jax.enable_x64(x64):
        _, policy = read(content)
    for ours, theirs in zip(
        jax.tree.leaves(policy), jax.tree.leaves(written), strict=True
    ):
        assert ours.dtype == theirs.dtype == jnp.dtype(dtype)
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def test_arrays_of_several_dtypes_are_refused():
    policy: Any = _mlp((2,))
    mixed = eqx.tree_at(
        lambda policy: policy.layers[0].bias, policy, jnp.zeros(2, jnp.bfloat16)
    )
    with pytest.raises(ValueError, match="bfloat16', 'float32'.*all be of one"):
        _content(mixed)


def test_other_activations_are_kept(read):
    observation = jnp.array([1.0, -2.0, 0.5, 3.0])
    answers = []
    for activation in get_args(Activation):
        policy = _mlp((4,), activation=activation)
        _, other = read(_content(policy))
        assert eqx.tree_equal(other, policy)
        answers.append(tuple(other(observation).tolist()))
    assert len(set(answers)) == 3
    with pytest.raises((ValueError, TypeError)):
        _mlp((4,), activation="sine")


def test_the_bound_is_kept_and_former_files_have_tanh(read):
    clipped = _mlp(bound="clip")
    content = _content(clipped)
    _, policy = read(content)
    assert eqx.tree_equal(policy, clipped) and policy.bound == "clip"
    former = {"hidden": [3, 2], "activation": "tanh"}
    _, policy = read(_with_header(content, options=former))
    assert policy.bound == "tanh" and not eqx.tree_equal(policy, clipped)
    with pytest.raises((ValueError, TypeError)):
        _mlp(bound="wrap")


def test_damaged_files(complaint):
    content = _content(_mlp())
    first = content.index(b"\n")
    header = content.index(b"\n", first + 1)
    damaged = [content[:at] for at in (first, first + 1, first + 9, header, -1)]
    for at in (first + 20, header + 3, -3):  # header and weights alike
        flipped = bytearray(content)
        flipped[at] ^= 1
        damaged.append(bytes(flipped))
    for bad in (*damaged, content + b"0"):
        assert complaint(bad).startswith("is damaged: ")
    for at in (0, 1, first - 1):
        assert complaint(content[:at]) == "is not a policy file."


class _Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_foreign_files_are_refused_and_never_unpickled(complaint, tmp_path):
    content = _content(_mlp())
    first, rest = content.split(b"\n", 1)
    mark = tmp_path / "unpickled"
    trap = pickle.dumps(_Trap(mark))
    other_version = json.dumps(json.loads(first) | {"format": "wsl-policy 0"}).encode()
    foreign = [trap, b"\x89PNG\r\n\x1a\n", b"[1, 2]\n", b"{}\n", b"[" * 9999 + b"\n"]
    for bad in (*foreign, other_version + b"\n" + rest):
        assert complaint(bad) == "is not a policy file."
    header = rest.split(b"\n", 1)[0]
    for bad in (header + b"\n" + trap, trap, b"", b"[]\n"):
        assert complaint(_signed(bad)).startswith(("does not fit", "has no header"))
    # The former format, whose weights NumPy reads.
    array = io.BytesIO()
    np.save(array, np.array([_Trap(mark)], dtype=object), allow_pickle=True)
    for bad in (trap, array.getvalue(), b"000000"):
        assert complaint(_former(bad)).startswith("does not fit its own header: ")
    assert not mark.exists()
    # Control: the trap does work.
    pickle.loads(trap).close()
    assert mark.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"options": {"hidden": [2, 3], "activation": "tanh"}}, "does not fit its own"),
        ({"dtype": "float64"}, "does not fit its own header"),
        ({"dtype": "int32"}, "has a header with dtype 'int32'"),
        ({"dtype": None}, "has a header without 'dtype'"),
        ({"task": None}, "has a header without 'task'"),
        ({"task_options": None}, "has a header without 'task_options'"),
        ({"policy": None}, "has a header without 'policy'"),
        ({"options": None}, "has a header without 'options'"),
        ({"options": {}}, "has a header without 'hidden'"),
        ({"options": {"hidden": [3]}}, "has a header without 'activation'"),
        ({"task": 3}, "has a header with task '3'; it must be a string"),
        ({"task_options": []}, "has a header with task_options '[]'; it must be a J"),
        ({"policy": ["mlp"]}, "has a header with policy"),
        ({"options": {"hidden": 3}}, "has a header with hidden '3'; it must be a list"),
        ({"options": {"hidden": [True]}}, "has a header with widths [True]"),
        ({"options": {"hidden": [0]}}, "has a header with widths [0]"),
        ({"options": {"hidden": [2.0]}}, "has a header with widths [2.0]"),
        ({"options": {"hidden": [10**9]}}, "has a header with widths [1000000000]"),
        # Each width is there, but not all of them together.
        ({"options": {"hidden": [1] * 9999}}, "has a header with widths [1, 1, 1"),
        ({"options": {"hidden": [1] * 10**6}}, "has no header"),
        ({"options": {"hidden": [3], "activation": "sine"}}, "has a header with activ"),
        (
            {"options": {"hidden": [3, 2], "activation": "tanh", "bound": "wrap"}},
            "has a header with bound 'wrap'",
        ),
        ({"task": "chess"}, "names a task that cannot be made"),
        ({"task_options": {"colour": "red"}}, "names a task that cannot be made"),
        ({"task_options": {"horizon": 2.5}}, "names a task that cannot be made"),
        ({"task_options": {"horizon": 10**30}}, "names a task that cannot be made"),
        ({"task_options": {"goal": "far"}}, "names a task that cannot be made"),
        ({"policy": "nowhere:Policy"}, "names a policy that cannot be made"),
    ],
)
def test_headers_that_are_made_up(complaint, changes, said):
    content = _content(_mlp())
    # Control: the header that is changed is fine.
    assert _with_header(content) == content
    assert complaint(_with_header(content, **changes)).startswith(said)


def test_weights_that_go_on_are_refused(complaint):
    _, rest = _content(_mlp()).split(b"\n", 1)
    assert complaint(_signed(rest + b"0000")).startswith("does not fit its own header")


# The former format: the checksum is that of the weights, in Equinox's serialisation.


def _former(weights: bytes, **changes: Any) -> bytes:
    header = {
        "format": "wsl-policy 1",
        "task": "cartpole",
        "task_options": {"horizon": 30},
        "hidden": [3, 2],
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    return json.dumps(header | changes).encode() + b"\n" + weights


def _serialised(policy) -> bytes:
    buffer = io.BytesIO()
    eqx.tree_serialise_leaves(buffer, policy)
    return buffer.getvalue()


def test_files_of_the_former_format(read, complaint):
    weights = _serialised(_mlp())
    for x64 in (False, True):
        with jax.enable_x64(x64):
            task, policy = read(_former(weights))
        assert task.horizon == 30 and eqx.tree_equal(policy, _mlp())
    swish = _mlp(activation="swish")
    _, policy = read(_former(_serialised(swish), activation="swish"))
    assert eqx.tree_equal(policy, swish)
    said = complaint(_former(weights, hidden=[2, 3]))
    assert said.startswith("does not fit its own header: ")
    assert complaint(_former(weights + b"0")).endswith("it has more weights.")
    assert complaint(_former(weights, hidden=[True, 2])).startswith("has a header with")
    assert complaint(_former(weights, sha256="0")).startswith("is damaged")


def test_levels_and_outcome_are_recorded(read, complaint):
    task = make("lqr")
    written = MLPPolicy(task, (), levels=3, key=jax.random.key(0))
    content = _content(written, task="lqr", task_options={})
    header = json.loads(content.split(b"\n", 2)[1])
    assert header["options"]["levels"] == 3
    _, policy = read(content)
    assert eqx.tree_equal(policy, written) and policy.action_space.levels == 3
    # Policies without levels say nothing of them.
    assert "levels" not in json.loads(_content(_mlp()).split(b"\n", 2)[1])["options"]
    for levels in (1, True, "3"):
        options = header["options"] | {"levels": levels}
        assert "levels" in complaint(_with_header(content, options=options))
    with pytest.raises(ValueError, match="discrete"):
        _mlp(levels=3)
    far = _content(_mlp(), task_options={"outcome": "sparse-goal", "goal": 0.5})
    assert read(far)[0] == make("cartpole", outcome="sparse-goal", goal=0.5)

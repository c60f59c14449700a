"""The benchmark: what it reports, on zoos of a few networks and steps."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats

from benchmarks.zoo import (
    ENCODERS,
    find,
    markdown,
    names_for,
    run,
    score,
    Settings,
    summary,
    table,
    Targets,
    TASKS,
)
from benchmarks.zoo.__main__ import main
from benchmarks.zoo._edit import (
    Editor,
    Rewriter,
    targets_of,
    train_editor,
    untrained,
)
from benchmarks.zoo._encoders import Setting
from benchmarks.zoo._fit import fit
from benchmarks.zoo._predict import train_predictor
from benchmarks.zoo._run import align
from tests.helpers import nightly
from wsl.encoders import Probing
from wsl.zoo import Siren
from wsl.zoo._digits_inrs import make_digits_inrs, Settings as ZooSettings
from wsl.zoo._digits_mlps import make_digits_mlps, Settings as MLPSettings


QUICK = Settings(steps=3, batch_size=4, width=8)


def _one(networks):
    return jax.tree.map(lambda x: x[0] if eqx.is_array(x) else x, networks)


@pytest.fixture(scope="module")
def zoo():
    settings = ZooSettings(1, "independent", False, 0, 10, num_images=(12, 5, 6))
    return make_digits_inrs(settings, cache=False)


@pytest.fixture
def small_tasks(zoo, monkeypatch):
    for name in ("digits-inr", "dilation"):
        task = dataclasses.replace(TASKS[name], make_zoo=lambda: zoo)
        monkeypatch.setitem(TASKS, name, task)


def test_scores_by_hand():
    logits = np.array([[0.0, 2.0], [3.0, 1.0], [0.0, 1.0]])
    digits = np.array([[1], [0], [0]])
    assert score(TASKS["digits-inr"], logits, digits) == {"accuracy": 2 / 3}
    predicted, labels = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1, 0], [0, 5]])
    assert score(TASKS["sine"], predicted, labels) == {"mse_a": 4.5, "mse_b": 2.0}
    # Of six pairs five agree in order and one does not.
    ranks = np.array([[1.0], [2.0], [4.0], [3.0]])
    accuracies = np.array([[0.1], [0.2], [0.3], [0.4]])
    found = score(TASKS["digits-mlp"], ranks, accuracies)
    assert found == {"tau": pytest.approx(4 / 6)}


def test_targets_by_hand():
    labels = np.array([[1.0, 0.0], [3.0, 4.0]])
    targets = Targets.of(TASKS["sine"], labels)
    np.testing.assert_allclose(targets(labels), [[-1, -1], [1, 1]])
    np.testing.assert_allclose(targets.predict(np.array([[-1.0, 1.0]])), [[1, 4]])
    assert float(targets.loss(jnp.array([1.0, 2.0]), jnp.zeros(2))) == 2.5
    classes = Targets.of(TASKS["digits-inr"], np.array([[3], [1]]))
    assert classes(np.array([[3], [1]])).tolist() == [3, 1]
    even = float(classes.loss(jnp.zeros(10), jnp.asarray(3)))
    assert even == pytest.approx(np.log(10))
    ranking = Targets.of(TASKS["digits-mlp"], np.array([[0.5]]))
    loss = float(ranking.loss(jnp.zeros(1), jnp.array([0.25])))
    assert loss == pytest.approx(np.log(2))


def test_summary_and_table_by_hand():
    shared = {"task": "t", "parameters": 1000}
    rows = [
        {**shared, "encoder": "x", "seed": 0, "tau": 0.5, "seconds": 1.0},
        {**shared, "encoder": "y", "seed": 0, "tau": 0.25, "seconds": 4.0},
        {**shared, "encoder": "x", "seed": 1, "tau": 0.7, "seconds": 3.0},
    ]
    first, second = summary(rows)
    assert first["seeds"] == [0, 1] and first["parameters"] == 1000
    assert first["tau"] == pytest.approx(0.6)
    assert first["tau_std"] == pytest.approx(0.02**0.5)
    assert second["tau_std"] is None and second["seconds"] == 4.0
    lines = table(rows).splitlines()
    assert markdown([first]).splitlines()[2] == "| `x` | 0.6 ± 0.1 | 2 | 1,000 |"
    assert lines[0].split() == ["encoder", "tau", "seconds", "parameters"]
    assert lines[1].split() == "x 0.6 ± 0.1 2 ± 1 1,000".split()
    assert lines[2].split() == "y 0.25 4 1,000".split()


def test_fit_finds_a_least_square():
    networks = {"w": jnp.array([[1.0], [3.0], [5.0]])}
    labels = jnp.array([2.0, 4.0, 6.0])
    settings = Settings(steps=400, batch_size=8, learning_rate=0.1, weight_decay=0.0)

    def loss(model, network, label, key):
        return jnp.square(network["w"][0] + model["shift"] - label)

    model = {"shift": jnp.array(0.0), "frozen": jnp.array(7.0)}
    trained = {"shift": True, "frozen": False}
    model, losses = fit(
        model, loss, networks, labels, settings, trained=trained, key=jr.key(0)
    )
    assert float(model["shift"]) == pytest.approx(1.0, abs=1e-2)
    assert float(model["frozen"]) == 7.0
    assert losses[-1] < losses[0]


def _network(task):
    if task.units == "scale":
        return eqx.nn.MLP(64, 10, 16, 2, key=jr.key(0))
    width = 32 if task.in_size == 1 else 24
    return Siren(task.in_size, 1, width, 2, first_frequency=10.0, key=jr.key(0))


@pytest.mark.parametrize(
    "name", nightly(["digits-inr", "sine", "digits-mlp"], ["digits-inr", "digits-mlp"])
)
def test_every_encoder_reads_the_networks_of_a_task(name):
    task = TASKS[name]
    network = _network(task)
    few = jax.tree.map(
        lambda x: jnp.stack([x, 2 * x]) if eqx.is_array(x) else x, network
    )
    at = Setting.of(task, few)
    for encoder_name in set(names_for(task)) & set(ENCODERS):
        made = eqx.filter_eval_shape(ENCODERS[encoder_name].make, at, jr.key(1))
        vector = eqx.filter_eval_shape(lambda made, x: made(x), made, network)
        assert vector.shape == (made.num_features,), encoder_name


@pytest.mark.nightly
def test_only_the_head_learns_on_an_encoder_that_does_not(zoo):
    task = TASKS["digits-inr"]
    at = Setting.of(task, zoo.networks)
    labels = zoo.labels["digit"][:, None]
    for name, learns in (("random-probes", False), ("probing", True)):
        entry = ENCODERS[name]
        model = train_predictor(entry, at, zoo.networks, labels, QUICK, key=jr.key(0))
        start = entry.make(at, jr.split(jr.key(0), 3)[0])
        assert isinstance(model.encoder, Probing) and isinstance(start, Probing)
        moved = not jnp.array_equal(model.encoder.probes, start.probes)
        assert moved == learns


@pytest.mark.parametrize(
    "encoder",
    ["flat-augmented", pytest.param("flat-matched", marks=pytest.mark.nightly)],
)
def test_run_reports_a_row(encoder, small_tasks):
    row = run("digits-inr", encoder, 0, QUICK)
    assert row["task"] == "digits-inr" and row["encoder"] == encoder
    assert 0 <= row["accuracy"] <= 1 and 0 <= row["accuracy_out_of_range"] <= 1
    assert row["reads"] == 697
    assert row["parameters"] > 0 and row["seconds"] > 0
    assert row["flops"] == 0
    assert row["parameters"] == 697 * 8 + 8 + 8 * 10 + 10


def test_aligned_networks_compute_the_same(zoo):
    at = Setting.of(TASKS["digits-inr"], zoo.networks)
    few = jax.tree.map(lambda x: x[:3] if eqx.is_array(x) else x, zoo.networks)
    aligned = align(at.space, few, _one(few))
    x = jnp.array([0.3, -0.4])
    answer = eqx.filter_vmap(lambda network: network(x))
    np.testing.assert_allclose(answer(aligned), answer(few), atol=1e-4)
    gap = jnp.abs(aligned.layers[1].weight - few.layers[1].weight).max(axis=(1, 2))
    assert gap[0] == 0 and gap[1] > 0 and gap[2] > 0


@pytest.mark.nightly
def test_real_pictures_tell_accuracy_by_hand(monkeypatch):
    settings = MLPSettings(10, (3,), 0, steps=20)
    zoo = make_digits_mlps(settings, cache=False)
    task = dataclasses.replace(TASKS["digits-mlp"], make_zoo=lambda: zoo)
    monkeypatch.setitem(TASKS, "digits-mlp", task)
    row = run("digits-mlp", "real-pictures", 0, QUICK)
    test = zoo.split("test")
    chosen = np.flatnonzero(zoo.data["parts"] == "validation")
    found = []
    for i in range(len(test)):
        network = jax.tree.map(
            lambda x, i=i: x[i] if eqx.is_array(x) else x, test.groups[0]
        )
        right = 0
        for image in chosen:
            logits = network(jnp.asarray(zoo.data["images"][image].ravel()))
            right += int(np.argmax(logits) == zoo.data["digits"][image])
        found.append(right / len(chosen))
    expected = scipy.stats.kendalltau(found, test.labels["accuracy"])
    assert row["tau"] == pytest.approx(expected[0])
    assert row["reads"] == 10 * len(chosen) and row["parameters"] == 0


def test_untrained_pictures_by_hand(zoo):
    train, test = zoo.split("train"), zoo.split("test")
    images = zoo.data["images"][train.labels["image"]]
    # The brightest of nine, by loops.
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    expected = np.max(
        [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)], axis=0
    )
    np.testing.assert_array_equal(targets_of(train), expected.reshape(-1, 64))
    mean = untrained("mean-image", train, test)
    np.testing.assert_allclose(mean[0], expected.mean(0).ravel(), rtol=1e-6)
    shown, dilated = (untrained(name, train, test) for name in ("identity", "pixels"))
    assert np.all(dilated >= shown) and np.any(dilated > shown)


@pytest.mark.parametrize(
    "encoder", [pytest.param("equivariant-np", marks=pytest.mark.nightly), "probing"]
)
def test_editors_learn(encoder, small_tasks):
    settings = dataclasses.replace(QUICK, learning_rate=1e-2, steps=60)
    unedited = run("dilation", "identity", 0, settings)
    edited = run("dilation", encoder, 0, settings)
    assert edited["mse"] < unedited["mse"] and edited["parameters"] > 0


@pytest.mark.nightly
def test_editors_leave_alone_what_was_measured(zoo):
    at = Setting.of(TASKS["dilation"], zoo.networks)
    for name, learns in (("random-probes", False), ("probing", True)):
        model = train_editor(name, at, zoo, QUICK, key=jr.key(0))
        start = Rewriter(at, name, key=jr.split(jr.key(0))[0])
        assert isinstance(model, Rewriter)
        assert isinstance(model.encoder, Probing) and isinstance(start.encoder, Probing)
        moved = not jnp.array_equal(model.encoder.probes, start.encoder.probes)
        assert moved == learns
        np.testing.assert_array_equal(model.scale.std, start.scale.std)
        # Weight decay moves what learns, and only that.
        mine, theirs = model.generator.writer, start.generator.writer
        np.testing.assert_array_equal(mine.context_deviation, theirs.context_deviation)
        assert not jnp.array_equal(mine.gains, theirs.gains)


def test_an_editor_starts_at_the_network_itself(zoo):
    at = Setting.of(TASKS["dilation"], zoo.networks)
    editor = Editor(at.space, zoo.networks, lambda x, *, key=None: x)
    network = _one(zoo.networks)
    # One hundredth of the identity is added.
    np.testing.assert_allclose(
        editor(network).layers[1].weight, 1.01 * network.layers[1].weight, rtol=1e-5
    )
    rewriter = Rewriter(at, "probing", key=jr.key(0))
    written = rewriter(network)
    assert isinstance(written, Siren) and written.frequencies == network.frequencies
    assert not jnp.array_equal(written.layers[1].weight, network.layers[1].weight)


def test_splits_must_not_meet():
    with pytest.raises(ValueError, match=r"none for both at once"):
        Settings(score_on=("validation",))
    with pytest.raises(ValueError, match=r"name splits for both"):
        Settings(fit_on=())


def test_a_learning_rate_that_is_given_counts():
    assert Settings().rate_for(None) == 3e-3 and Settings().rate_for(0.1) == 0.1
    assert Settings(learning_rate=0.2).rate_for(0.1) == 0.2


def test_command_line(small_tasks, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    main(
        [
            *("--task", "digits-inr", "--encoder", "statistics", "--steps", "2"),
            *("--seeds", "0", "1", "--json", str(rows)),
        ]
    )
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [row["seed"] for row in found] == [0, 1]
    assert "statistics" in capsys.readouterr().out
    capsys.readouterr()
    assert main(["--task", "digits-inr", "--encoder", "nothing"]) == 2
    assert "There is no encoder 'nothing'" in capsys.readouterr().err
    assert main(["--task", "digits-inr", "--json", str(tmp_path)]) == 2
    assert "is a directory; name a file" in capsys.readouterr().err
    for seeds in ([], ["-1"], ["4294967296"]):
        assert main(["--task", "digits-inr", "--seeds", *seeds]) == 2
        assert "--seeds takes numbers from 0" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no task 'nothing'"):
        find("nothing")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", -1),
        ("batch_size", 0),
        ("width", -1),
        ("width", 2**31),
        ("learning_rate", float("nan")),
        ("learning_rate", 0.0),
        ("weight_decay", float("inf")),
        ("weight_decay", -0.1),
        ("dropout", 5e19),
        ("dropout", float("nan")),
    ],
)
def test_numbers_that_nobody_can_train_with(name, value, capsys):
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(ValueError, match=f"{flag} must be"):
        Settings(**{name: value})
    with pytest.raises(SystemExit) as exit_:
        main(["--task", "digits-inr", flag, str(value)])
    assert exit_.value.code == 2
    assert flag in capsys.readouterr().err

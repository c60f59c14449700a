from collections.abc import Callable, Sequence
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import check_positive
from wsl.encoders._answers import answers_to, identity, shape_of
from wsl.encoders._encoder import AbstractEncoder


@final
class LearnedValidationSet(AbstractEncoder):
    r"""How well a classifier does on learned inputs with learned labels.

    A classifier's accuracy is measured on a validation set; where there is none, one
    can be learned from classifiers whose accuracy is known. With the logits \(f_k\) at
    the probe \(k\) of \(K\) and their standard deviation \(r\) over all probes and
    classes, the vector holds for each of a few exponents \(\alpha\)

    \[ \frac{1}{K} \sum_k \mathrm{softmax}(y_k) \cdot
       \mathrm{softmax}(\beta_\alpha f_k / r^\alpha), \]

    as log-odds. It is the mean probability of the learned labels \(y_k\): with
    \(\alpha = 0\) as the classifier means it, with \(\alpha = 1\) whatever the size of
    its logits, which differs by orders of magnitude between training runs.

    The mean over probes leaves a head nothing to memorise single answers by, which
    separate answers do. Noise on the probes in training, fresh in each step, helps as
    augmentation does (`equinox.tree_at` on `probes`).

    Ours; probing by learned inputs is that of Harb et al. 2020.

    Attributes:
        probes: The learned inputs, `(num_probes, *input_shape)`.
        labels: The learned labels y, as logits, `(num_probes, num_classes)`.
        log_sharpness: Logarithm of \(\beta\), for each exponent.
        exponents: The exponents.
    """

    probes: Float[Array, "num_probes ..."]
    labels: Float[Array, "num_probes num_classes"]
    log_sharpness: Float[Array, " exponents"]
    exponents: tuple[float, ...] = eqx.field(static=True)
    is_invariant: ClassVar[bool] = True

    def __init__(
        self,
        input_shape: int | tuple[int, ...],
        num_classes: int,
        num_probes: int,
        *,
        exponents: Sequence[float] = (0.0, 0.5, 1.0),
        initializer: Callable[..., Array] | None = None,
        key: PRNGKeyArray,
    ):
        """Makes the encoder and draws its first probes.

        The labels start near one class each, in turn; the sharpness at 1 + 2 α.

        Args:
            input_shape: Shape of one input of the classifiers; an integer stands for a
                vector.
            num_classes: How many logits a classifier answers with.
            num_probes: How many inputs to learn.
            exponents: What powers of their deviation the logits are divided by.
            initializer: Draws the first probes, as those of `jax.nn.initializers`.
                Uniform on [0, 1) unless given.
            key: Source of randomness.

        Raises:
            ValueError: If a size is not positive or there are no exponents.
        """
        check_positive(
            input_shape=input_shape, num_classes=num_classes, num_probes=num_probes
        )
        if not exponents:
            raise ValueError("There must be one exponent or more.")
        if initializer is None:
            initializer = jax.nn.initializers.uniform(scale=1.0)
        shape = (num_probes, *shape_of(input_shape))
        self.probes = initializer(key, shape, jnp.float32)
        classes = jnp.arange(num_probes) % num_classes
        self.labels = 3 * jax.nn.one_hot(classes, num_classes)
        self.log_sharpness = jnp.log(1 + 2 * jnp.asarray(exponents, jnp.float32))
        self.exponents = tuple(exponents)

    @property
    def num_features(self) -> int:
        """Length of the vector: one number for each exponent."""
        return len(self.exponents)

    @property
    def num_reads(self) -> int:
        """How many numbers of a network it reads: all logits."""
        return self.labels.size

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one classifier.

        Args:
            network: A callable from one input to logits. The network itself, not only
                its array leaves: it is run.

        Returns:
            Log-odds of the mean probabilities, one for each exponent.

        Raises:
            ValueError: If the network is not callable or answers with another number of
                logits.
        """
        num_classes = self.labels.shape[1]
        logits = answers_to(self.probes, network, num_classes, identity, identity)
        logits = logits.reshape(self.labels.shape).astype(self.labels.dtype)
        spread = jnp.sqrt(jnp.var(logits) + 1e-12)
        labels = jax.nn.softmax(self.labels, axis=-1)
        scores = []
        for i, exponent in enumerate(self.exponents):
            sharpness = jnp.exp(self.log_sharpness[i]) / spread**exponent
            said = jax.nn.softmax(sharpness * logits, axis=-1)
            scores.append(jnp.mean(jnp.sum(labels * said, axis=-1)))
        return jax.scipy.special.logit(jnp.stack(scores))

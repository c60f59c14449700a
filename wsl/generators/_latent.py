from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import check_positive
from wsl.encoders._encoder import AbstractEncoder
from wsl.generators._generator import AbstractGenerator, Network
from wsl.generators._writer import check_context
from wsl.nn._draw import mlp


@final
class LatentNormal(eqx.Module):
    """A normal distribution of latents with a diagonal covariance.

    Attributes:
        mean: Mean of each coordinate.
        log_variance: Logarithm of the variance of each coordinate.
    """

    mean: Float[Array, " latent"]
    log_variance: Float[Array, " latent"]

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, " latent"]:
        """Draws a latent, as a function of mean and variance that has gradients.

        Args:
            key: Source of randomness.

        Returns:
            The latent.
        """
        noise = jr.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(0.5 * self.log_variance) * noise

    def kl_divergence(self) -> Float[Array, ""]:
        r"""Kullback-Leibler divergence from the standard normal distribution.

        Returns:
            \(\mathrm{KL}(q \,\|\, \mathcal{N}(0, I)) = \frac{1}{2} \sum_i
            (\mu_i^2 + \sigma_i^2 - \ln \sigma_i^2 - 1)\), in nats (Kingma and Welling
            2014, appendix B).
        """
        variance = jnp.exp(self.log_variance)
        return 0.5 * jnp.sum(self.mean**2 + variance - self.log_variance - 1)


@final
class LatentGenerator(AbstractGenerator[Network]):
    r"""Writes different networks for the same context.

    A variational autoencoder of weights, conditioned on the context \(c\): an encoder
    reads a network \(\theta\), a head gives mean and variance of
    \(q(z \mid \theta, c)\), and the decoder, any generator whose context is \([c, z]\),
    writes the weights. It learns from pairs of a network and its context by
    [`negative_elbo`][wsl.generators.LatentGenerator.negative_elbo].

    Called without a key it writes the network of \(z = 0\), the mode of the prior; with
    a key it draws \(z \sim \mathcal{N}(0, I)\). Initial statistics are those of the
    decoder, over contexts and draws.

    Source: Kingma and Welling 2014; conditioned as in Sohn, Lee and Yan 2015.

    Attributes:
        context_size: Length of the context.
        latent_size: Length of the latent.
        encoder: Reads networks, in training.
        head: From features and context to means and logarithms of variances.
        decoder: Writes networks.
    """

    context_size: int = eqx.field(static=True)
    latent_size: int = eqx.field(static=True)
    encoder: AbstractEncoder
    head: eqx.nn.MLP
    decoder: AbstractGenerator[Network]

    def __init__(
        self,
        encoder: AbstractEncoder,
        decoder: AbstractGenerator[Network],
        latent_size: int,
        *,
        width: int = 64,
        depth: int = 1,
        key: PRNGKeyArray,
    ):
        """Joins an encoder and a decoder.

        Args:
            encoder: Reads the networks to be learnt. It should see them on a scale of
                order 1.
            decoder: Writes networks. The last `latent_size` numbers of its context are
                the latent, those before are the context.
            latent_size: Length of the latent.
            width: Units of a hidden layer of the head.
            depth: How many hidden layers the head has.
            key: Source of randomness.

        Raises:
            ValueError: If a size is not positive, or leaves nothing of the decoder's
                context.
        """
        check_positive(latent_size=latent_size, width=width, depth=depth)
        if decoder.context_size <= latent_size:
            raise ValueError(
                f"The decoder's context has {decoder.context_size} numbers, of which "
                f"the latent takes {latent_size}, which leaves no context. Give it a "
                "longer one: the context's size plus `latent_size`."
            )
        self.context_size = decoder.context_size - latent_size
        self.latent_size = latent_size
        self.encoder = encoder
        self.decoder = decoder
        head = mlp(
            encoder.num_features + self.context_size,
            2 * latent_size,
            width,
            depth,
            key=key,
        )
        # Near the prior at the start, whatever the scale of the features.
        self.head = eqx.tree_at(
            lambda head: (head.layers[-1].weight, head.layers[-1].bias),
            head,
            replace_fn=lambda leaf: 0.01 * leaf,
        )

    def __call__(
        self, context: Float[Array, " context"], *, key: PRNGKeyArray | None = None
    ) -> Network:
        """Writes one network.

        Args:
            context: What the network is to be made for.
            key: Draws the latent; without one it is 0.

        Returns:
            The network.

        Raises:
            ValueError: If the context is of another size.
        """
        self._check(context)
        if key is None:
            latent = jnp.zeros(self.latent_size)
        else:
            latent = jr.normal(key, (self.latent_size,))
        return self.decode(context, latent)

    def decode(
        self, context: Float[Array, " context"], latent: Float[Array, " latent"]
    ) -> Network:
        """Writes the network of a latent.

        Args:
            context: What the network is to be made for.
            latent: The latent.

        Returns:
            The network.

        Raises:
            ValueError: If the context or the latent is of another size.
        """
        self._check(context)
        if latent.shape != (self.latent_size,):
            raise ValueError(
                f"The latent has shape {latent.shape}; this generator has latents of "
                f"{self.latent_size} numbers."
            )
        latent = latent.astype(context.dtype)
        return self.decoder(jnp.concatenate([context, latent]))

    def encode(
        self, network: PyTree, context: Float[Array, " context"]
    ) -> LatentNormal:
        """Which latents a network may have come from.

        Args:
            network: The network.
            context: What it was made for.

        Returns:
            The distribution of latents.

        Raises:
            ValueError: If the context is of another size.
        """
        self._check(context)
        features = self.encoder(network)
        context = context.astype(features.dtype)
        mean, log_variance = jnp.split(
            self.head(jnp.concatenate([features, context])), 2
        )
        return LatentNormal(mean, log_variance)

    def negative_elbo(
        self,
        network: PyTree,
        context: Float[Array, " context"],
        distance: Callable[[Any, Any], Float[Array, ""]],
        *,
        beta: float | Float[Array, ""] = 1.0,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        r"""What to minimise, of one network: distance + beta * KL.

        The negative evidence lower bound, up to a constant and a factor, of a decoder
        with noise of variance \(\beta / 2\) in the units of a distance that is a sum of
        squares. Distances that are means, as
        [`WeightDistance`][wsl.generators.WeightDistance] and
        [`AnswerDistance`][wsl.generators.AnswerDistance], want a small `beta`.

        Args:
            network: The network. A batch goes through `eqx.filter_vmap`.
            context: What it was made for.
            distance: Called with the network and its reconstruction.
            beta: Weight of the divergence (Higgins et al. 2017).
            key: Draws the latent.

        Returns:
            The loss.

        Raises:
            ValueError: If the context is of another size.
        """
        latents = self.encode(network, context)
        written = self.decode(context, latents.sample(key=key))
        return distance(network, written) + beta * latents.kl_divergence()

    def _check(self, context: Float[Array, " context"]) -> None:
        check_context(context, self.context_size)

"""What a value of single steps is fitted to: λ-returns along a segment."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def lambda_returns(
    rewards: Float[Array, " steps"],
    next_values: Float[Array, " steps"],
    *,
    terminated: Bool[Array, " steps"],
    goes_on: Bool[Array, " steps"],
    discount: float,
    trace: float,
    taken_values: Float[Array, " steps"] | None = None,
) -> Float[Array, " steps"]:
    """Targets of all steps of a segment, from the last one back.

    With γ the discount, λ the trace and v the values of next states,

        y_t = r_t + γ (v_t + λ (y_{t+1} - b_{t+1})),

    where b_{t+1} = v_t, so that y is the λ-return of what was done: one-step TD with λ
    0, and with 1 the rewards to the end of the segment. With `taken_values` b is the
    value of the action that was taken there, so that what differs from the policy that
    is evaluated is corrected for in expectation: y = Q + Σ (γλ)^k δ, Q(λ) with
    off-policy corrections.

    Sources: Sutton and Barto (2018), section 12.1; Harutyunyan et al. (2016), "Q(λ)
    with Off-Policy Corrections", equation 5.

    Args:
        rewards: r.
        next_values: v, of the state that the step reached and what the evaluated policy
            does there.
        terminated: Where the task ended the episode: v is 0.
        goes_on: Where the next step of the segment is the next one of the episode, and
            to be learned from. Elsewhere, as at a time limit and at the segment's end,
            y_t = r_t + γ v_t.
        discount: γ.
        trace: λ.
        taken_values: Values of states and the actions taken in them, at each step.

    Returns:
        y.
    """
    next_values = jnp.where(terminated, 0.0, next_values)
    if taken_values is None:
        base = next_values
    else:
        base = jnp.append(taken_values[1:], taken_values[-1:])
    goes_on = goes_on.at[-1].set(False)

    def back(later: Array, step: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, value, base, goes_on = step
        more = jnp.where(goes_on, trace * (later - base), 0.0)
        target = reward + discount * (value + more)
        return target, target

    steps = (rewards, next_values, base, goes_on)
    _, targets = jax.lax.scan(back, jnp.zeros((), rewards.dtype), steps, reverse=True)
    return targets


def follows(
    terminated: Bool[Array, " steps"],
    truncated: Bool[Array, " steps"],
    valid: Bool[Array, " steps"],
) -> Bool[Array, " steps"]:
    """Where the next step of a segment goes on with the same episode.

    Args:
        terminated: Where the task ended the episode.
        truncated: Where the time limit ended it.
        valid: Which steps stayed finite; others are the last ones of their episodes,
            and nothing is to be learned from them.

    Returns:
        False at the last step.
    """
    sound = valid & ~(terminated | truncated)
    return sound & jnp.append(valid[1:], False)

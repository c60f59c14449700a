"""Whether a space's groups leave a function alone, checked on real numbers."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from wsl._space import check_space, columns, numpy_generator, WeightSpace
from wsl._verify._check import Check, UNIFORM, UNUSED


@dataclasses.dataclass(frozen=True)
class SymmetryReport:
    """What [`verify_symmetry`][wsl.verify_symmetry] found; prints as a table.

    All residuals and sensitivities are the largest change of an output, relative to
    the largest magnitude of that output. Where outputs differ in precision, each is
    measured against its own tolerance, and shown on the scale of the strictest.

    Attributes:
        verdict: "holds", "broken: group g, leaf p" or "inconclusive: ...".
        tolerance: The largest change that rounding explains.
        joint: The change when all groups move together.
        residuals: For each group, the change when it moves alone. The symmetry holds
            where this is rounding.
        sensitivities: For each group and leaf, the change when the group moves this
            leaf and no other (for a leaf that it moves on several axes, the smallest
            over single axes). A coupling is tested where this is more than rounding.
        remarks: For each group and leaf whose sensitivity is rounding, the reason.
        blamed: The group and the leaf of a broken symmetry.
        mode: "full", or "quick": all groups together, and of each group one leaf alone.
    """

    verdict: str
    tolerance: float
    joint: float
    residuals: dict[str, float]
    sensitivities: dict[tuple[str, str], float]
    remarks: dict[tuple[str, str], str]
    blamed: tuple[str, str] | None = None
    mode: str = "full"

    @property
    def holds(self) -> bool:
        """Whether the verdict is "holds"."""
        return self.verdict == "holds"

    def __str__(self) -> str:
        rows = [("group", "leaf", "change", "")]
        groups = [*self.residuals, *(group for group, _ in self.sensitivities)]
        for group in dict.fromkeys(groups):
            if group in self.residuals:
                change = f"{self.residuals[group]:.1e}"
                rows.append((group, "all its leaves", change, ""))
            else:
                rows.append((group, "", "", ""))
            for (name, path), change in self.sensitivities.items():
                if name == group:
                    remark = self.remarks.get((name, path), "")
                    rows.append(("", f"only {path}", f"{change:.1e}", remark))
        rows.append(("all groups", "", f"{self.joint:.1e}", ""))
        lines = columns(rows)
        quick = " (quick: one leaf of each group was moved alone)"
        verdict = self.verdict + quick * (self.mode == "quick")
        lines += [f"tolerance: {self.tolerance:.1e}", f"verdict: {verdict}"]
        return "\n".join(lines)


def verify_symmetry(
    space: WeightSpace,
    fn: Callable[..., Any],
    *inputs: PyTree,
    key: PRNGKeyArray,
    num_samples: int = 4,
    noise: float = 0.1,
    mode: Literal["full", "quick"] = "full",
) -> SymmetryReport:
    """Checks that permuting a model's weights leaves its function unchanged.

    Two things are measured. Permuting all leaves of a group together must change the
    outputs by no more than rounding does, one group at a time and all at once. And
    permuting a single leaf of a group must change them, or nothing would have been
    tested.

    Rounding is measured on the function itself: it is run on weights and inputs whose
    last digits are changed, and what that changes is scaled up by the square root of
    the length of the longest sums (not in 16-bit types, which are summed in float32),
    and by 8. Matrix products are run at full precision.

    At initialisation biases are zero and scales one, and any permutation leaves them
    alone, which would hide errors. The weights are therefore moved first, by normal
    noise of `noise` times each leaf's root mean square (for a leaf of zeros, times the
    mean of the others').

    Where a symmetry is broken, the leaf to blame is searched for: the one for which
    another choice of its axes, the group's other leaves as they are, mends it, or
    brings the outputs closest.

    Args:
        space: The space to check.
        fn: A model with weights of this space, or a function of such weights. It must
            be possible to compile it by `eqx.filter_jit`, and it must not draw random
            numbers except from a key among its inputs.
        *inputs: What the model is called with; for a function, the weights and then
            its other inputs, if any. Inputs of zeros hide what they are multiplied by.
        key: Source of randomness.
        num_samples: How many permutations to draw for each check.
        noise: Relative size of the noise; 0 to check the weights as they are.
        mode: `"full"` moves every group by itself, and every leaf of it alone, several
            times. `"quick"` moves all groups together, and of each group one leaf that
            must matter: some runs for each group in place of some for each leaf, for
            models that take long to run. Both look at all groups, so that their
            verdicts agree; quick says less of which couplings were tested. Where the
            groups together change the function, it goes on as in full mode, to find
            which.

    Returns:
        A report. Its verdict is "holds"; or "broken: group g, leaf p"; or
        "inconclusive: ..." where there is no group, outputs are missing or not finite,
        or the function ignores all weights of a group.

    Raises:
        ValueError: If `num_samples` is not positive, `noise` negative, `mode` is
            neither, or the weights are not of this space.

    Examples:
        >>> import equinox as eqx, jax, wsl
        >>> model = eqx.nn.MLP(3, 2, 8, 1, key=jax.random.key(0))
        >>> spec = {
        ...     ".layers[0].weight": ("hidden", None),
        ...     ".layers[0].bias": (None,),
        ...     ".layers[1].weight": (None, "hidden"),
        ...     ".layers[1].bias": (None,),
        ... }
        >>> space = wsl.WeightSpace.from_spec(model, spec)
        >>> x = jax.numpy.ones(3)
        >>> wsl.verify_symmetry(space, model, x, key=jax.random.key(1)).verdict
        'broken: group hidden, leaf .layers[0].bias'
    """
    if mode not in ("full", "quick"):
        raise ValueError(f'`mode` must be "full" or "quick"; got {mode!r}.')
    if num_samples < 1 or noise < 0:
        raise ValueError(
            "Draw one sample or more, with noise of 0 or more; got "
            f"num_samples={num_samples}, noise={noise}."
        )
    check_space(space)
    check = Check.make(space, fn, inputs, num_samples, noise, numpy_generator(key))
    obstacle = _obstacle(check)
    if obstacle is not None:
        return SymmetryReport(
            f"inconclusive: {obstacle}", check.ruler.tolerance, math.nan, {}, {}, {}
        )
    unit = check.ruler.tolerance
    moving = [group for group, size in space.groups.items() if size > 1]
    joint = check.coupled(moving)
    quick = mode == "quick"
    enough = quick and joint <= 1
    residuals = {} if enough else {group: check.coupled([group]) for group in moving}
    sensitivities: dict[tuple[str, str], float] = {}
    remarks: dict[tuple[str, str], str] = {}
    for group in moving:
        for i, leaf in enumerate(space.pieces):
            found = [
                check.alone(i, slot, 1 if quick else num_samples)
                for slot in leaf.slots
                if slot.group == group
            ]
            if found:
                sensitivities[group, leaf.path], remark = min(found)
                if remark:
                    remarks[group, leaf.path] = remark
                elif quick:
                    break  # One that matters is enough.
    blamed = None
    if max([*residuals.values(), joint]) > 1:
        group = max(residuals, key=residuals.__getitem__)
        blamed = group, space.pieces[check.blame(group)].path
        verdict = "broken: group {}, leaf {}".format(*blamed)
    else:
        verdict = _tested(moving, sensitivities, remarks)
    return SymmetryReport(
        verdict,
        unit,
        joint * unit,
        {group: residual * unit for group, residual in residuals.items()},
        {pair: change * unit for pair, change in sensitivities.items()},
        remarks,
        blamed,
        mode,
    )


def _obstacle(check: Check) -> str | None:
    space, ruler = check.space, check.ruler
    for leaf, array in zip(space.pieces, check.leaves, strict=True):
        if not np.isfinite(array.astype(float)).all():
            return f"leaf {leaf.path} of the weights has numbers that are not finite"
    if not any(size > 1 for size in space.groups.values()):
        return "the space has no groups that move anything"
    if not any(output.size for output in ruler.outputs):
        return "the function has no outputs"
    if any(np.isnan(output).any() for output in ruler.outputs):
        return "outputs are not finite at these weights and inputs"
    if math.isinf(ruler.tolerance):
        return "rounding alone changes every output"
    return None


def _tested(
    groups: Iterable[str],
    sensitivities: dict[tuple[str, str], float],
    remarks: dict[tuple[str, str], str],
) -> str:
    for group in groups:
        found = {remarks.get(pair, "") for pair in sensitivities if pair[0] == group}
        if found <= {UNUSED, UNIFORM}:
            return (
                f"inconclusive: group {group}, no permutation of a single leaf changes "
                f"the outputs ({'; '.join(sorted(found))})"
            )
    return "holds"

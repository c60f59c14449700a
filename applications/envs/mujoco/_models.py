"""Models of the robots in the installed `gymnasium` package, and their frames."""

import importlib.resources

import jax.numpy as jnp
import mujoco
from jaxtyping import Array, Float

from applications.envs._task import Integrator


_INTEGRATORS = {
    "euler": mujoco.mjtIntegrator.mjINT_EULER,
    "rk4": mujoco.mjtIntegrator.mjINT_RK4,
    "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
}


def gymnasium_spec(name: str, integrator: Integrator | None = None) -> mujoco.MjSpec:
    """The robot that the installed `gymnasium` package holds, to be edited.

    Args:
        name: Name of the XML file, without `.xml`.
        integrator: How to integrate; None for the file's own way.

    Returns:
        The specification.

    Raises:
        ValueError: If the integrator has another name.
    """
    if integrator is not None and integrator not in _INTEGRATORS:
        raise ValueError(
            f"There is no integrator {integrator!r}; there are {list(_INTEGRATORS)}."
        )
    assets = importlib.resources.files("gymnasium") / "envs" / "mujoco" / "assets"
    spec = mujoco.MjSpec.from_string((assets / f"{name}.xml").read_text())
    if integrator is not None:
        spec.option.integrator = _INTEGRATORS[integrator]
    return spec


def gymnasium_model(name: str, integrator: Integrator | None = None) -> mujoco.MjModel:
    """The same, compiled as it is.

    Args:
        name: As of `gymnasium_spec`.
        integrator: As of `gymnasium_spec`.

    Returns:
        The model.
    """
    spec = gymnasium_spec(name, integrator)
    # The compiler warns of this attribute; what it asks for instead comes to the same.
    mass = spec.compiler.settotalmass
    spec.compiler.settotalmass = -1
    model = spec.compile()
    if mass > 0:
        mujoco.mj_setTotalmass(model, mass)
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def to_body_frame(
    quaternion: Float[Array, " 4"], vector: Float[Array, " 3"]
) -> Float[Array, " 3"]:
    """Expresses a world-frame vector in the frame of a body.

    Args:
        quaternion: Orientation of the body in the world, scalar part first, of unit
            length.
        vector: The vector, in the world frame.

    Returns:
        The same vector in the body frame: it is rotated by the conjugate of
        `quaternion`.
    """
    scalar, axis = quaternion[0], quaternion[1:]
    twice = 2 * jnp.cross(axis, vector)
    return vector - scalar * twice + jnp.cross(axis, twice)

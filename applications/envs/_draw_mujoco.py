"""Pictures of MuJoCo's models: lit, on a floor, under a sky, with a camera."""

from collections.abc import Callable, Sequence
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float, UInt8


_SKY_ABOVE, _SKY_BELOW = np.array([150, 190, 230]), np.array([238, 243, 248])
_FLOOR = np.array([0.72, 0.75, 0.78, 1.0], np.float32)
# Of the extent of a model: how far the camera is, and how far the floor reaches.
_AWAY, _WIDE = 1.5, 40.0
_ELEVATION, _AZIMUTH = -18.0, 90.0


def draw_mujoco(
    model: Any,
    positions: Sequence[Float[np.ndarray, " positions"]],
    height: int,
    width: int,
) -> list[UInt8[np.ndarray, "height width 3"]]:
    """Draws a model at several positions.

    Args:
        model: MuJoCo's model.
        positions: Its `qpos`, one a picture.
        height: Of a picture, in pixels.
        width: Likewise.

    Returns:
        The pictures.

    Raises:
        RuntimeError: If there is no way to draw here.
    """
    model.vis.global_.offheight = max(model.vis.global_.offheight, height)
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
    model.vis.headlight.ambient[:] = 0.45
    model.vis.headlight.diffuse[:] = 0.55
    model.vis.headlight.specular[:] = 0.1
    data = mujoco.MjData(model)
    try:
        renderer = mujoco.Renderer(model, height, width)
    except Exception as error:  # each GL backend has errors of its own
        raise RuntimeError(
            f"MuJoCo cannot draw here ({error}). On Debian: apt-get install libegl1 "
            "libegl-mesa0 libgl1-mesa-dri, and set MUJOCO_GL=egl."
        ) from error
    sky = None if _has_sky(model) else _sky(height, width)
    add_floor = None if _has_floor(model) else _floor_of(model)
    camera = _camera(model)
    pictures = []
    with renderer:
        for qpos in positions:
            data.qpos[:] = qpos
            mujoco.mj_forward(model, data)
            if isinstance(camera, mujoco.MjvCamera) and model.nv > 6:
                camera.lookat[0] = data.subtree_com[0, 0]
            renderer.update_scene(data, camera=camera)
            if add_floor is not None:
                add_floor(renderer.scene)
            picture = renderer.render().copy()
            if sky is not None:
                renderer.enable_segmentation_rendering()
                behind = renderer.render()[..., 0] < 0
                renderer.disable_segmentation_rendering()
                picture[behind] = sky[behind]
            pictures.append(picture)
    return pictures


def _has_sky(model: Any) -> bool:
    return bool(np.any(model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX))


def _has_floor(model: Any) -> bool:
    return bool(np.any(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE))


def _sky(height: int, width: int) -> UInt8[np.ndarray, "height width 3"]:
    """From blue above to nearly white."""
    share = np.linspace(0, 1, height)[:, None, None]
    column = (1 - share) * _SKY_ABOVE + share * _SKY_BELOW
    return np.broadcast_to(column, (height, width, 3)).astype(np.uint8)


def _floor_of(model: Any) -> Callable[[Any], None]:
    """Adds a floor to a scene, below all that the model has."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    # As far down as anything reaches however it turns.
    lowest = float(np.min(data.geom_xpos[:, 2] - model.geom_rbound, initial=0.0))
    lowest = min(lowest, -0.6 * model.stat.extent)
    size = _WIDE * model.stat.extent

    def add(scene: Any) -> None:
        if scene.ngeom >= scene.maxgeom:
            return
        geom = scene.geoms[scene.ngeom]
        mujoco.mjv_initGeom(
            geom,
            mujoco.mjtGeom.mjGEOM_PLANE,
            np.array([size, size, 0.1]),
            np.array([0.0, 0.0, lowest]),
            np.eye(3).ravel(),
            _FLOOR,
        )
        # Else it has no number where the sky is told from what is before it.
        geom.segid, geom.objid = scene.ngeom, 0
        scene.ngeom += 1

    return add


def _camera(model: Any) -> Any:
    """The model's own camera, or one from the side."""
    if model.ncam:
        return 0
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)
    camera.distance = _AWAY * model.stat.extent
    camera.elevation, camera.azimuth = _ELEVATION, _AZIMUTH
    return camera

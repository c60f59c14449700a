"""What a program does without that never draws."""

import os


def without_display() -> None:
    """Tells MuJoCo, before its import, that this process draws nothing.

    It would load GLFW otherwise, which asks another Python for its version: that takes
    a tenth of a second, and prints a traceback where this process is killed meanwhile.
    A `MUJOCO_GL` that is set already stays. It is for programs, not for libraries: what
    is drawn later in the same process needs the variable set to something else before
    MuJoCo is imported.
    """
    os.environ.setdefault("MUJOCO_GL", "disable")

"""Whether a space's groups leave a function alone, checked on real numbers."""

from wsl._verify._check import Check as Check
from wsl._verify._verify import (
    SymmetryReport as SymmetryReport,
    verify_symmetry as verify_symmetry,
)

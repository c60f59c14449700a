"""Parameter-based values learned from single steps: PSVF, PAVF, and an actor-critic.

``python -m applications.pvf.train`` trains. The algorithm is in `algorithm`, its
settings are in `config`; V(θ) of whole episodes, PSSVF, is in `start_state`.
"""

from applications.pvf.algorithm import PVF as PVF
from applications.pvf.config import Config as Config
from applications.pvf.start_state import PSSVF as PSSVF

"""What EPVF is compared with: algorithms of well-kept libraries, on our tasks."""

from applications.baselines.config import Algorithm as Algorithm, Config as Config

"""Flags by task: hyperparameters that others have tuned, in the words of our commands.

Of `sb3-ppo` and `sb3-sac` they are those that the authors of Stable-Baselines3 publish
with RL Baselines3 Zoo (Raffin 2020; `hyperparams/ppo.yml` and `sac.yml`), for the
MuJoCo tasks of Gymnasium and what are `CartPole-v1` and `MountainCarContinuous-v0`
there. Where the zoo has a batch larger than what is collected, it is that. The zoo
clips standardised observations to 10, and with `--sde` SAC's means to 2; here both go
free, for a perceptron could not say it.
"""

from typing import Final


_STANDARDISED = "--normalise --normalise-rewards"
_RELU_256 = (
    "--hidden 256 256 --critic-hidden 256 256 --activation relu --no-orthogonal "
    "--noise-scale 0.1353"
)

# By algorithm and task; each goes on after `--algorithm NAME --env TASK`.
TUNED: Final[dict[str, dict[str, str]]] = {
    "sb3-ppo": {
        "cartpole": "--steps 100000 --num-envs 8 --unroll 32 --batch-size 256 "
        "--updates 20 --gae-lambda 0.8 --discount 0.98 --learning-rate 1e-3 "
        "--schedule linear",
        "mountain_car_continuous": f"--steps 20000 {_STANDARDISED} --num-envs 1 "
        "--unroll 8 --batch-size 8 --updates 10 --gae-lambda 0.9 --discount 0.9999 "
        "--learning-rate 7.77e-5 --ratio-clip 0.1 --entropy-cost 0.00429 "
        "--critic-cost 0.19 --max-grad-norm 5 --sde --noise-scale 0.0373 "
        "--no-orthogonal",
        "inverted_pendulum": f"{_STANDARDISED} --num-envs 1 --unroll 32 "
        "--batch-size 32 --updates 5 --gae-lambda 0.9 --discount 0.999 "
        "--learning-rate 2.22425e-4 --ratio-clip 0.4 --entropy-cost 1.37976e-7 "
        "--critic-cost 0.19816 --max-grad-norm 0.3",
        "half_cheetah": f"{_STANDARDISED} --num-envs 1 --unroll 512 --batch-size 64 "
        "--updates 20 --gae-lambda 0.92 --discount 0.98 --learning-rate 2.0633e-5 "
        "--ratio-clip 0.1 --entropy-cost 0.000401762 --critic-cost 0.58096 "
        f"--max-grad-norm 0.8 {_RELU_256}",
        "hopper": f"{_STANDARDISED} --num-envs 1 --unroll 512 --batch-size 32 "
        "--updates 5 --gae-lambda 0.99 --discount 0.999 --learning-rate 9.80828e-5 "
        "--ratio-clip 0.2 --entropy-cost 0.00229519 --critic-cost 0.835671 "
        f"--max-grad-norm 0.7 {_RELU_256}",
        "swimmer": f"{_STANDARDISED} --num-envs 4 --unroll 1024 --batch-size 256 "
        "--gae-lambda 0.98 --discount 0.9999 --learning-rate 6e-4",
        # Not tuned there: the library's own defaults, standardised.
        "ant": f"{_STANDARDISED} --num-envs 1 --unroll 2048 --batch-size 64",
    },
    "sb3-sac": {
        "mountain_car_continuous": "--steps 50000 --hidden 64 64 --buffer 50000 "
        "--batch-size 512 --entropy-cost 0.1 --unroll 32 --updates 32 "
        "--discount 0.9999 --target-rate 0.01 --warm-up 1 --sde --noise-scale 0.0255",
        # Not there: the library's own defaults, and a warm-up that is short.
        "inverted_pendulum": "--warm-up 1000",
        # The zoo's are the defaults of `sb3-sac`.
        "half_cheetah": "",
        "hopper": "",
        "swimmer": "--discount 0.9999",
        "ant": "",
    },
}

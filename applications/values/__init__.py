"""Value functions over policies, V(θ), V(s, θ) and Q(s, a, θ), and their fits."""

from applications.values._ascent import (
    Direction as Direction,
    trust_step as trust_step,
)
from applications.values._choose import (
    answers as answers,
    choose as choose,
    Chosen as Chosen,
)
from applications.values._critics import (
    AbstractCritic as AbstractCritic,
    CriticKind as CriticKind,
    CriticStart as CriticStart,
    Ensemble as Ensemble,
    Fitted as Fitted,
    KernelCritic as KernelCritic,
    PerceptronCritic as PerceptronCritic,
)
from applications.values._fit import (
    descend as descend,
    fit as fit,
    labels as labels,
    mean_of_valid as mean_of_valid,
    mean_values as mean_values,
    predict as predict,
    TargetKind as TargetKind,
    Targets as Targets,
    update_of as update_of,
    Value as Value,
)
from applications.values._inputs import (
    answer_spread as answer_spread,
    bounded_answer as bounded_answer,
    InputScale as InputScale,
    observed_states as observed_states,
    ObservedStates as ObservedStates,
    root_mean_square as root_mean_square,
    ScaledFeatures as ScaledFeatures,
    ScaledWeights as ScaledWeights,
)
from applications.values._kernel import (
    fit_kernel as fit_kernel,
    KernelValue as KernelValue,
)
from applications.values._policy_gradient import (
    Importance as Importance,
    likelihood_ratio_terms as likelihood_ratio_terms,
    pathwise_terms as pathwise_terms,
    Terms as Terms,
    Visited as Visited,
)
from applications.values._representation import (
    check_representation as check_representation,
    EncoderOptions as EncoderOptions,
    make_encoder as make_encoder,
    parts_of as parts_of,
    Representation as Representation,
    REPRESENTATIONS as REPRESENTATIONS,
)
from applications.values._returns import (
    follows as follows,
    lambda_returns as lambda_returns,
)
from applications.values._schedules import (
    NoiseSchedule as NoiseSchedule,
    Schedule as Schedule,
    schedule as schedule,
)
from applications.values._step_critic import (
    AnyStepCritic as AnyStepCritic,
    draw_ensemble as draw_ensemble,
    rescaled as rescaled,
    StepCritic as StepCritic,
    values_of as values_of,
)
from applications.values._step_values import StepValue as StepValue
from applications.values._surroundings import (
    draw_states as draw_states,
    shown_by as shown_by,
    surrounded as surrounded,
    Surroundings as Surroundings,
)
from applications.values._targets import (
    RankTargets as RankTargets,
    StandardTargets as StandardTargets,
)
from applications.values._value_function import (
    correlation as correlation,
    value_function as value_function,
)

"""From noise to a sample: how diffusers' own pipelines drive each kind of scheduler.

Schedulers that draw noise while they sample get one generator for each item. So an item's noise is the same
for every network and every number of items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput, in_a_line, unknown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Denoise = Callable[["Tensor", "Tensor"], "Tensor"]  # (x [b, c, s, s], time) -> the network's output
Noise = Sequence["torch.Generator"]  # one for each item; empty for a deterministic scheduler
STEPS, NOISY_STEPS = 10, 100  # unless the model's card says otherwise


def by_steps(denoise: Denoise, scheduler: Any, x: Tensor, noise: Noise) -> Tensor:
    """One call of the network for each time of the scheduler."""
    own = {"generator": noise} if noise else {}
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, time) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(denoise(scaled, time), time, x, **own).prev_sample
    return x


def by_predictor_corrector(denoise: Denoise, scheduler: Any, x: Tensor, noise: Noise) -> Tensor:
    """The variance-exploding SDE (Song et al. 2021, arXiv:2011.13456). Its pictures lie in [0, 1].

    A corrector's step length is a mean over the batch, so batches must be the same for every number of items.
    """
    mean = x
    for sigma, time in zip(scheduler.sigmas, scheduler.timesteps, strict=True):
        level = (sigma * x.new_ones(len(x))).to(x.device)
        for _ in range(scheduler.config.correct_steps):
            x = scheduler.step_correct(denoise(x, level), x, generator=noise).prev_sample
        found = scheduler.step_pred(denoise(x, level), time, x, generator=noise)
        x, mean = found.prev_sample, found.prev_sample_mean
    return 2 * mean - 1


def by_churn(denoise: Denoise, scheduler: Any, x: Tensor, noise: Noise) -> Tensor:
    """The stochastic sampler of Karras et al. 2022, arXiv:2206.00364, algorithm 2."""
    for time in scheduler.timesteps:
        sigma = scheduler.schedule[time]
        before: Any = scheduler.schedule[time - 1] if time > 0 else 0
        x, level = scheduler.add_noise_to_input(x, sigma, generator=noise)
        slope = level / 2 * denoise((x + 1) / 2, level / 2)
        found = scheduler.step(slope, level, before, x)
        if before != 0:
            slope = before / 2 * denoise((found.prev_sample + 1) / 2, before / 2)
            found = scheduler.step_correct(slope, level, before, x, found.prev_sample, found.derivative)
        x = found.prev_sample
    return x


@dataclass(frozen=True)
class Kind:
    """How a scheduler is driven, and what it costs."""

    drive: Callable[[Denoise, Any, Any, Noise], Any] = by_steps
    draws_noise: bool = False  # while it samples

    def calls(self, scheduler: Any) -> int:
        """Calls of the network for one sample."""
        times = len(scheduler.timesteps)
        if self.drive is by_predictor_corrector:
            return times * (scheduler.config.correct_steps + 1)
        return 2 * times - 1 if self.drive is by_churn else times


DETERMINISTIC = (  # given the start noise
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "DDIMScheduler",
    "HeunDiscreteScheduler",
    "EulerDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
)
SCHEDULERS: Mapping[str, Kind] = {
    **{name: Kind() for name in DETERMINISTIC},
    "DDPMScheduler": Kind(draws_noise=True),
    "EulerAncestralDiscreteScheduler": Kind(draws_noise=True),
    "ScoreSdeVeScheduler": Kind(by_predictor_corrector, draws_noise=True),
    "KarrasVeScheduler": Kind(by_churn, draws_noise=True),
}


def kind_of(config: Mapping[str, Any], folder: str) -> Kind:
    """How the scheduler of a folder is driven. Raises `BadInput` for one that cannot make twins."""
    name = str(config.get("_class_name"))
    if name not in SCHEDULERS:
        raise BadInput(
            f"{unknown('scheduler', name, SCHEDULERS)}; write one of them as _class_name into "
            f"{folder}/scheduler/scheduler_config.json"
        )
    if config.get("stochastic_sampling") or str(config.get("algorithm_type", "")).startswith("sde"):
        raise BadInput(
            f"the scheduler of {folder!r} draws noise that no seed of an item fixes; set stochastic_sampling "
            f"to false, and algorithm_type to one without 'sde'"
        )
    return SCHEDULERS[name]


def default_steps(kind: Kind, config: Mapping[str, Any]) -> int:
    """The steps of a model whose card says nothing, at most those that it was trained with."""
    if not kind.draws_noise:
        return STEPS
    trained = config.get("num_train_timesteps")
    return min(NOISY_STEPS, trained) if isinstance(trained, int) and trained > 0 else NOISY_STEPS


def set_up(config: Mapping[str, Any], steps: int, folder: str, device: str) -> Any:
    """A fresh scheduler, its times set. Raises `BadInput`."""
    import diffusers

    try:
        scheduler = getattr(diffusers, str(config["_class_name"])).from_config(config)
        scheduler.set_timesteps(steps, device=device)
        if hasattr(scheduler, "set_sigmas"):
            scheduler.set_sigmas(steps)
    except Exception as error:
        raise BadInput(f"the scheduler of {folder!r} cannot be set up: {in_a_line(error)}") from None
    return scheduler

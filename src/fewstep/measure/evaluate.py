"""Quality against cost: a model and its teacher draw the same captions from the same noise, measured in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fewstep.core.randomness import check_seed
from fewstep.generation.model import Model
from fewstep.measure import metrics
from fewstep.measure.candidates import Candidate
from fewstep.measure.metrics import Share
from fewstep.measure.subjects import HeldOutKind, Query, Subject, evenly, matches
from fewstep.measure.timing import time_in_turn

MAX_N = 100_000
REFERENCES = 4  # real pictures per caption that distances are measured to


@dataclass(frozen=True)
class EvaluationRow:
    """The measurements of one candidate.

    Args:
        who: the candidate's role, or "real" for real pictures, which show how accurate the judge is.
        model: the model's name.
        sampler, steps, evaluations, guidance: how it was sampled; evaluations are network evaluations per picture.
        prompt_accuracy: the share of pictures that the judge recognises as what the caption asks for.
        frechet: Fréchet distance to real pictures of the same captions, in the judge's features.
        kid: kernel distance to the same pictures, mean and standard deviation.
        diversity: mean feature distance between pictures of one caption with different seeds.
        sharpness: fine detail, relative to that of the real pictures.
        endpoint_distance: root mean square pixel distance to the teacher's picture from the same noise.
        held_out_colour, held_out_style: accuracy of object and word together, for combinations held out of training.
        ms_per_image: median milliseconds by batch size, from prompt to pixels.
    """

    who: str
    model: str | None = None
    sampler: str | None = None
    steps: int | None = None
    evaluations: int | None = None
    guidance: float | None = None
    prompt_accuracy: Share | None = None
    frechet: float | None = None
    kid: tuple[float, float] | None = None
    diversity: float | None = None
    sharpness: float | None = None
    endpoint_distance: float | None = None
    held_out_colour: Share | None = None
    held_out_style: Share | None = None
    ms_per_image: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationSettings:
    """How much to measure.

    Args:
        n: number of captions.
        batch: pictures generated at once; it does not change them.
        seed: seed of the choice of captions and of the noise.
        held_out: number of captions of held-out combinations with a colour, and as many with a style.
        diverse: number of captions, and of seeds for each, to measure diversity with.
        timing: whether to measure time.
    """

    n: int = 500
    batch: int = 50
    seed: int = 0
    held_out: int = 100
    diverse: tuple[int, int] = (25, 4)
    timing: bool = True

    def __post_init__(self) -> None:
        for name, low in (("n", 2), ("batch", 1), ("held_out", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= MAX_N:
                raise ValueError(f"{name} must be a whole number between {low} and {MAX_N}, got {value}")
        if self.diverse[0] < 1 or self.diverse[1] < 2:
            raise ValueError(f"diverse must be at least 1 caption and 2 seeds, got {self.diverse}")
        check_seed(self.seed)
        check_seed(self.seed + self.n + max(self.held_out, self.diverse[0] * self.diverse[1]))


def evaluate(
    model: Model,
    teacher: Model | None,
    subject: Subject,
    steps: Sequence[int] = (1, 2),
    settings: EvaluationSettings | None = None,
    guidance: float | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[EvaluationRow]:
    """Measure a model at several numbers of steps, and its teacher for comparison.

    Args:
        model: the model to measure, with its own sampler.
        teacher: the diffusion model it was distilled from, or None.
        subject: the queries and their judge (`subject_for`).
        steps: numbers of steps.
        settings: how much to measure.
        guidance: guidance scale of both models; None for their own.
        progress: called with a line of text for each step of the work.

    Returns:
        The rows of real pictures, the teacher, its single denoising estimate, and the model at each number of steps.

    Raises:
        RequestError: a model does not accept these steps or this guidance.
    """
    settings = settings or EvaluationSettings()
    candidates = _candidates(model, teacher, steps, guidance)
    evaluation = _Evaluation(subject, settings)
    for candidate in candidates:
        candidate.plan(evaluation.queries[:1], evaluation.seeds[:1])  # report mistakes before minutes of work
    progress(f"{settings.n} captions of {subject.name}, judged beside real pictures")
    rows, endpoint = [evaluation.real()], None
    for candidate in candidates:
        progress(
            f"{candidate.model.name}: {candidate.sampler}, {candidate.steps} step{'s' if candidate.steps > 1 else ''}"
        )
        row, pixels = evaluation.row(candidate, endpoint)
        endpoint = pixels if candidate.role == "teacher" else endpoint
        rows.append(row)
    if settings.timing:
        progress("timing, every candidate in turn")
        spent = time_in_turn(candidates, evaluation.queries)
        rows[1:] = [replace(row, ms_per_image=ms) for row, ms in zip(rows[1:], spent, strict=True)]
    return rows


def _candidates(model: Model, teacher: Model | None, steps: Sequence[int], guidance: float | None) -> list[Candidate]:
    if not steps:
        raise ValueError("steps must name at least one number of steps")
    candidates = [Candidate("model", model, n, model.spec.sampler, guidance) for n in dict.fromkeys(steps)]
    if teacher is None:
        return candidates
    return [
        Candidate("teacher", teacher, teacher.spec.steps, teacher.spec.sampler, guidance),
        Candidate("denoise", teacher, 1, "euler", guidance),
        *candidates,
    ]


class _Evaluation:
    """One evaluation: the same queries and the same real pictures for every candidate."""

    def __init__(self, subject: Subject, settings: EvaluationSettings) -> None:
        self.subject, self.settings = subject, settings
        seed, (captions, seeds) = settings.seed, settings.diverse
        self.queries = subject.queries(settings.n, seed)
        self.seeds = [seed + i for i in range(settings.n)]
        chosen = [self.queries[i] for i in evenly(len(self.queries), min(captions, len(self.queries)), seed)]
        self.diverse = [query for query in chosen for _ in range(seeds)]
        kinds: tuple[HeldOutKind, ...] = ("colour", "style")
        self.held_out = {kind: subject.held_out(kind, settings.held_out, seed) for kind in kinds}
        features = []
        for draw in range(1, 1 + REFERENCES):  # one at a time: all their pixels together would fill the memory
            pixels = subject.real(self.queries, draw)
            features.append(subject.judge(pixels).features)
            if draw == 1:
                self.detail = metrics.sharpness(pixels)
        self.references = np.stack(features)

    def real(self) -> EvaluationRow:
        """The row of real pictures."""
        pixels = self.subject.real(self.queries, 0)
        varied = self.subject.real(self.diverse, 0)
        shares = {
            kind: self._share(queries, self.subject.real(queries, 0))
            for kind, queries in self.held_out.items()
            if queries
        }
        return self._judged(EvaluationRow("real"), pixels, varied, shares)

    def row(self, candidate: Candidate, endpoint: Any) -> tuple[EvaluationRow, Any]:
        """The row of a candidate, and its pixels for the plain captions."""
        batch = self.settings.batch
        pixels, evaluations = candidate.draw(self.queries, self.seeds, batch)
        varied, _ = candidate.draw(self.diverse, self._other_seeds(len(self.diverse)), batch)
        shares = {}
        for kind, queries in self.held_out.items():
            if queries:
                shares[kind] = self._share(
                    queries, candidate.draw(queries, self._other_seeds(len(queries)), batch)[0]
                )
        spec = candidate.model.spec
        guidance = spec.guidance if candidate.guidance is None else candidate.guidance
        row = EvaluationRow(
            candidate.role, candidate.model.name, candidate.sampler, candidate.steps, evaluations, guidance
        )
        if endpoint is not None and endpoint.shape == pixels.shape:
            row = replace(row, endpoint_distance=metrics.pixel_distance(pixels, endpoint))
        return self._judged(row, pixels, varied, shares), pixels

    def _other_seeds(self, count: int) -> list[int]:
        """Seeds that no plain caption uses."""
        return [self.settings.seed + self.settings.n + i for i in range(count)]

    def _share(self, queries: Sequence[Query], pixels: Any) -> Share:
        return Share(int(matches(queries, self.subject.judge(pixels)).sum()), len(queries))

    def _judged(
        self, row: EvaluationRow, pixels: Any, varied: Any, shares: Mapping[HeldOutKind, Share]
    ) -> EvaluationRow:
        verdict = self.subject.judge(pixels)
        groups = self.subject.judge(varied).features.reshape(-1, self.settings.diverse[1], verdict.features.shape[1])
        return replace(
            row,
            prompt_accuracy=Share(int(matches(self.queries, verdict).sum()), len(self.queries)),
            frechet=metrics.frechet_distance(verdict.features, np.concatenate(self.references)),
            kid=metrics.kid(verdict.features, self.references, seed=self.settings.seed),
            diversity=metrics.diversity(groups),
            sharpness=metrics.sharpness(pixels) / max(self.detail, 1e-12),
            held_out_colour=shares.get("colour"),
            held_out_style=shares.get("style"),
        )

"""Quality against cost: a model and its teacher are asked the same, with the same noise, and measured in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.core import grids
from fewstep.core.parameterisations import Targets
from fewstep.core.randomness import check_seed
from fewstep.generation.load import load
from fewstep.generation.model import Model
from fewstep.generation.planning import Plan
from fewstep.generation.request import Request
from fewstep.measure import metrics
from fewstep.measure.metrics import Share
from fewstep.measure.subjects import Ask, Kind, Subject, answered, evenly
from fewstep.models.parts import ModelError

MAX_N = 100_000
REFERENCES = 4  # real pictures of each caption that distances are taken to
BATCHES = (1, 16)
ROUNDS = {1: 9, 16: 5}


@dataclass(frozen=True)
class Row:
    """One way of making pictures, measured.

    Args:
        who: "model", "teacher", "denoise" (the teacher's single estimate from pure noise) or "real" (real pictures:
            what the judge itself reaches).
        model: its name.
        sampler, steps, evaluations, guidance: how; evaluations are of the network, for one picture.
        prompt_accuracy: the share of captions that the judge reads off the pictures.
        frechet: Fréchet distance to real pictures of the same captions, in the judge's features.
        kid: kernel distance to them, mean and standard deviation.
        diversity: mean feature distance between pictures of one caption by different seeds.
        sharpness: fine detail, as a share of the real pictures'.
        endpoint_distance: root mean square pixel distance to the teacher's picture from the same noise.
        held_out_colour, held_out_style: accuracy of thing and word together where training never showed both.
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
class Way:
    """A way of making pictures: a model and how it is asked.

    Args:
        levels: the σ/α to visit before clean, one a step; None for the model's own.
    """

    who: str
    model: Model
    steps: int
    sampler: str
    guidance: float | None = None
    levels: tuple[float, ...] | None = None

    def plan(self, asks: Sequence[Ask], seeds: Sequence[int]) -> Plan:
        """One batch; each picture has its own prompt and seed.

        Raises:
            RequestError: the model cannot be asked so.
        """
        first = asks[0]
        choices: dict[str, Any] = {"steps": self.steps, "sampler": self.sampler, "guidance": self.guidance}
        plan = self.model.plan(Request(first.prompt, seed=0, label=first.label, **choices))
        levels = plan.sampling.levels if self.levels is None else grids.from_ratios(self.levels)
        labels = None if plan.conditions.labels is None else tuple(ask.label for ask in asks)
        return replace(
            plan,
            sampling=replace(plan.sampling, seeds=tuple(seeds), levels=levels),
            conditions=replace(plan.conditions, prompts=tuple(ask.prompt for ask in asks), labels=labels),
        )

    def draw(self, asks: Sequence[Ask], seeds: Sequence[int], batch: int) -> tuple[Any, int]:
        """Pixels float32 [n, c, h, w], and network evaluations for one picture."""
        parts, evaluations = [], 0
        for i in range(0, len(asks), batch):
            pixels, evaluations = self.run(self.plan(asks[i : i + batch], seeds[i : i + batch]))
            parts.append(pixels)
        return np.concatenate(parts), evaluations

    def run(self, plan: Plan) -> tuple[Any, int]:
        """The pixels of one plan, and evaluations."""
        *_, last = self.model.run(plan)
        return self.model.spec.codec.decode(last.jump.x), last.evaluations


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Args:
        n: captions.
        batch: pictures made at once, which changes no picture.
        seed: chooses captions and noise.
        held_out: captions of held-out combinations with a colour, and as many with a style.
        diverse: captions, and seeds of each, for diversity.
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
    settings: Settings | None = None,
    guidance: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Measure a model at several numbers of steps, its teacher beside it.

    Args:
        model: what is measured, with its own sampler.
        teacher: the diffusion model it was made from, or None.
        subject: what is asked and who judges (`subject_for`).
        steps: numbers of steps.
        settings: how much is measured.
        guidance: of both models; None for their own.
        say: told what happens.

    Returns:
        Real pictures, the teacher, its single denoise, then the model at each number of steps.

    Raises:
        RequestError: steps or guidance that a model does not take.
    """
    settings = settings or Settings()
    ways = _ways(model, teacher, steps, guidance)
    examiner = _Examiner(subject, settings)
    for way in ways:
        way.plan(examiner.asks[:1], examiner.seeds[:1])  # a mistake must show before minutes of work
    say(f"{settings.n} captions of {subject.name}, judged beside real pictures")
    rows, endpoint = [examiner.real()], None
    for way in ways:
        say(f"{way.model.name}: {way.sampler}, {way.steps} {'step' if way.steps == 1 else 'steps'}")
        row, pixels = examiner.row(way, endpoint)
        endpoint = pixels if way.who == "teacher" else endpoint
        rows.append(row)
    if settings.timing:
        say("timing, every way in turn")
        spent = time_in_turn(ways, examiner.asks)
        rows[1:] = [replace(row, ms_per_image=ms) for row, ms in zip(rows[1:], spent, strict=True)]
    return rows


def _ways(model: Model, teacher: Model | None, steps: Sequence[int], guidance: float | None) -> list[Way]:
    if not steps:
        raise ValueError("steps must name at least one number of steps")
    ways = [Way("model", model, n, model.spec.sampler, guidance) for n in dict.fromkeys(steps)]
    if teacher is None:
        return ways
    return [
        Way("teacher", teacher, teacher.spec.steps, teacher.spec.sampler, guidance),
        Way("denoise", teacher, 1, "euler", guidance),
        *ways,
    ]


class _Examiner:
    """Asks everyone the same, and compares with the same real pictures."""

    def __init__(self, subject: Subject, settings: Settings) -> None:
        self.subject, self.settings = subject, settings
        seed, (captions, seeds) = settings.seed, settings.diverse
        self.asks = subject.asks(settings.n, seed)
        self.seeds = [seed + i for i in range(settings.n)]
        chosen = [self.asks[i] for i in evenly(len(self.asks), min(captions, len(self.asks)), seed)]
        self.diverse = [ask for ask in chosen for _ in range(seeds)]
        kinds: tuple[Kind, ...] = ("colour", "style")
        self.held_out = {kind: subject.held_out(kind, settings.held_out, seed) for kind in kinds}
        features = []
        for draw in range(1, 1 + REFERENCES):  # one at a time: their pixels would fill the memory
            pixels = subject.real(self.asks, draw)
            features.append(subject.judge(pixels).features)
            if draw == 1:
                self.detail = metrics.sharpness(pixels)
        self.references = np.stack(features)

    def real(self) -> Row:
        """What real pictures reach."""
        pixels = self.subject.real(self.asks, 0)
        varied = self.subject.real(self.diverse, 0)
        shares = {kind: self._share(asks, self.subject.real(asks, 0)) for kind, asks in self.held_out.items() if asks}
        return self._judged(Row("real"), pixels, varied, shares)

    def row(self, way: Way, endpoint: Any) -> tuple[Row, Any]:
        """What a model reaches, and its pixels for the plain captions."""
        batch = self.settings.batch
        pixels, evaluations = way.draw(self.asks, self.seeds, batch)
        varied, _ = way.draw(self.diverse, self._other_seeds(len(self.diverse)), batch)
        shares = {}
        for kind, asks in self.held_out.items():
            if asks:
                shares[kind] = self._share(asks, way.draw(asks, self._other_seeds(len(asks)), batch)[0])
        spec = way.model.spec
        guidance = spec.guidance if way.guidance is None else way.guidance
        row = Row(way.who, way.model.name, way.sampler, way.steps, evaluations, guidance)
        if endpoint is not None and endpoint.shape == pixels.shape:
            row = replace(row, endpoint_distance=metrics.pixel_distance(pixels, endpoint))
        return self._judged(row, pixels, varied, shares), pixels

    def _other_seeds(self, count: int) -> list[int]:
        """Seeds that no plain caption has."""
        return [self.settings.seed + self.settings.n + i for i in range(count)]

    def _share(self, asks: Sequence[Ask], pixels: Any) -> Share:
        return Share(int(answered(asks, self.subject.judge(pixels)).sum()), len(asks))

    def _judged(self, row: Row, pixels: Any, varied: Any, shares: Mapping[Kind, Share]) -> Row:
        verdict = self.subject.judge(pixels)
        groups = self.subject.judge(varied).features.reshape(-1, self.settings.diverse[1], verdict.features.shape[1])
        return replace(
            row,
            prompt_accuracy=Share(int(answered(self.asks, verdict).sum()), len(self.asks)),
            frechet=metrics.frechet_distance(verdict.features, np.concatenate(self.references)),
            kid=metrics.kid(verdict.features, self.references, seed=self.settings.seed),
            diversity=metrics.diversity(groups),
            sharpness=metrics.sharpness(pixels) / max(self.detail, 1e-12),
            held_out_colour=shares.get("colour"),
            held_out_style=shares.get("style"),
        )


def time_in_turn(
    ways: Sequence[Way], asks: Sequence[Ask], batches: Sequence[int] = BATCHES, rounds: Mapping[int, int] = ROUNDS
) -> list[dict[int, float]]:
    """Median milliseconds for one picture by batch size, one entry a way.

    Every round takes each way in turn, so that a slower spell of the machine meets all of them; three runs a turn of
    ways short enough, so that one of them is free of what the way before left in the caches.
    """
    results: list[dict[int, float]] = [{} for _ in ways]
    for batch in batches:
        chosen = [asks[i % len(asks)] for i in range(batch)]
        plans = [way.plan(chosen, range(batch)) for way in ways]
        spent: list[list[float]] = [[] for _ in ways]
        for turn in range(1 + rounds.get(batch, 5)):
            for way, plan, times in zip(ways, plans, spent, strict=True):
                for _ in range(3 if way.steps <= 4 else 1):
                    start = time.perf_counter()
                    way.run(plan)
                    if turn:  # the first turn warms up
                        times.append(1000 * (time.perf_counter() - start) / batch)
        for result, times in zip(results, spent, strict=True):
            result[batch] = statistics.median(times)
    return results


def teacher_of(
    model: Model, threads: int | None = None, say: Callable[[str], None] = lambda text: None
) -> Model | None:
    """The teacher that a model's lineage names, from beside it or inside the package; None if it is not there.

    Args:
        model: the student.
        threads: for the teacher's network.
        say: told which teacher was expected where, if it is not there.

    Raises:
        ModelError: it is damaged.
    """
    if model.spec.targets is Targets.SAME:
        return None
    absent = []
    for parent in model.spec.lineage:
        if name := str(parent.get("teacher") or ""):
            found = None if "/" in name else _teacher(model.saved.directory.parent / name, threads)
            if found is not None and parent.get("hash") in (None, found.hash):
                return found
            absent.append(_absence(name, parent.get("hash"), model.saved.directory.parent, found))
    for text in absent:
        say(text)
    return None


def _teacher(beside: Path, threads: int | None) -> Model | None:
    """The model in this directory, else the built-in one of its name."""
    try:
        return load(beside if beside.is_dir() else beside.name, threads=threads)
    except ModelError:
        if beside.is_dir():
            raise
        return None


def _absence(name: str, expected: Any, folder: Path, found: Model | None) -> str:
    digest = "" if expected is None else f" ({str(expected)[:10]})"
    why = f"is neither in '{folder}' nor built in"
    if found is not None:
        why = f"is another than the one in '{found.saved.directory}' ({found.hash[:10]})"
    return f"the teacher '{name}'{digest} that the model names {why}: it is left out; give one with --teacher"

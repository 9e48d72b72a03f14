"""The inputs that objectives are built from, and the base class of their settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from fewstep.core.levels import Path
from fewstep.core.parameterisations import Estimator, Targets
from fewstep.objectives.learned_guidance import LearnedGuidance
from fewstep.objectives.objective import Objective
from fewstep.objectives.times import Density, TwoTimes


@dataclass(frozen=True)
class TrainingSetup:
    """What an objective is built from, besides its own settings.

    Args:
        density: distribution of the noise levels σ/α that the denoiser is trained at.
        steps: optimiser steps of this training.
        parent: the frozen network that the student starts from; None for a student from scratch.
        copy_student: function that makes a trainable denoiser with the student's inputs and initial weights, for an
            objective that trains a second network; None without a parent.
        guidance: the guidance distilled into the student; None for none.
        path: the noise path, which sets the scale of x; None for the objective's own.
        sigma_data: the data's standard deviation σd.
    """

    density: Density
    steps: int
    parent: Estimator | None = None
    copy_student: Callable[[], Estimator] | None = None
    guidance: LearnedGuidance | None = None
    path: Path | None = None
    sigma_data: float = 0.5

    @property
    def teacher(self) -> Estimator:
        """The parent, for an objective that needs one.

        Raises:
            ValueError: there is no parent.
        """
        if self.parent is None:
            raise ValueError("this objective needs a teacher")
        return self.parent

    @property
    def student_copy(self) -> Estimator:
        """A second network, for an objective that trains one besides the student.

        Raises:
            ValueError: there is no parent.
        """
        if self.copy_student is None:
            raise ValueError("this objective needs a teacher")
        return self.copy_student()

    def warmup(self, share: float) -> int:
        """The number of steps in a share of the training."""
        return int(share * self.steps)

    def pairs(self, apart: float) -> TwoTimes:
        """Pairs of times from the density, a share of them with different times."""
        return TwoTimes(self.density, apart)


class ObjectiveSettings(ABC):
    """The settings of one objective, a frozen dataclass, and the properties that are known before it is built."""

    kind: ClassVar[str]
    """The objective's name, as stored in `model.json`."""

    targets: ClassVar[Targets]
    """The jumps that the trained network can make."""

    path: ClassVar[Literal["linear", "trig"] | None] = None
    """The only path that the objective is defined on; None if any will do."""

    differentiates: ClassVar[bool] = False
    """Whether it uses forward-mode derivatives, which CUDA graphs cannot record."""

    @property
    def needs(self) -> Targets | None:
        """The jumps that the parent must make; None for an objective that needs no parent."""
        return None

    @property
    def learns_guidance(self) -> bool:
        """Whether guidance can be distilled into the student."""
        return False

    @property
    def lowest(self) -> float | None:
        """The lowest σ/α above clean that the student is trained at; None if it is trained down to clean."""
        return None

    @abstractmethod
    def build(self, setup: TrainingSetup) -> Objective:
        """Build the objective.

        Raises:
            ValueError: the setup lacks something that it needs.
        """

"""A loaded model, which every surface calls to make images from requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from PIL import Image

from fewstep.core.parameterisations import Network, Parameterised
from fewstep.editing.errors import RequestError
from fewstep.generation import delivery, planning, running
from fewstep.generation.choices import (
    BESIDE_REQUEST,
    EDIT_ONLY,
    Choices,
    EditChoices,
    OnStep,
    PictureLike,
    Step,
    edit_of,
    named,
    opened,
)
from fewstep.generation.planning import Plan
from fewstep.generation.request import Request
from fewstep.generation.running import CountingNetwork, Progress
from fewstep.models.parts import ModelError
from fewstep.models.saved import DESCRIPTION, SavedModel, copied
from fewstep.models.text import PromptReport
from fewstep.pictures.generated import GeneratedImage


class Model:
    """A loaded model.

    Args:
        saved: the model as read from its directory.
        network: the network, running on an engine.
        engine, precision, device: the engine, precision and device that records name.
        reopen: opens the same model again, in another process; None if nothing does.
    """

    def __init__(
        self,
        saved: SavedModel,
        network: Network,
        engine: str,
        precision: str = "float32",
        device: str = "cpu",
        reopen: Callable[[], Model] | None = None,
    ) -> None:
        self.saved, self.spec, self.reopen = saved, saved.spec, reopen
        self.engine, self.precision, self.device = engine, precision, device
        self.network = network
        self._drawer = delivery.Drawer(saved, engine, precision, device)

    def __repr__(self) -> str:
        return f"Model('{self.spec.name}', {self.saved.hash[:10]}, engine '{self.engine}')"

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def hash(self) -> str:
        return self.saved.hash

    @property
    def native_size(self) -> tuple[int, int]:
        """(width, height) of the images that the network makes."""
        return self.spec.pixels[-1], self.spec.pixels[-2]

    def estimator(self, network: Network | None = None) -> Parameterised:
        """The model as an estimator on NumPy arrays."""
        return Parameterised(network or self.network, self.spec.parameterisation, self.spec.targets)

    @named(Choices)
    def generate(self, prompt: str = "", **choices: Unpack[Choices]) -> GeneratedImage:
        """Draw one image.

        Args:
            prompt: what to draw.
            choices: seed, steps, guidance, size, background and the others of `Choices`, which `help` lists.

        Returns:
            A Pillow image with a `.record`.

        Raises:
            RequestError: a choice is out of range, or not available for this model.
            TypeError: there is no choice of this name; the message says what it is called here.
        """
        (plan,) = self._plans([prompt], 1, None, choices)
        return self._drawn(plan, choices.get("on_step"))[0]

    @named(Choices)
    def generate_all(
        self,
        prompts: str | Sequence[str] | Request = "",
        *,
        n: int = 1,
        seeds: Sequence[int] | None = None,
        **choices: Unpack[Choices],
    ) -> list[GeneratedImage]:
        """Draw several images: n of each prompt, in the order of the prompts.

        Args:
            prompts: a prompt or several; or a `Request`, which has all choices in it.
            n: images of each prompt, with the seeds seed, seed + 1 …
            seeds: the seed of each image instead of `seed`, for each prompt.
            choices: as in `generate`.

        Raises:
            RequestError, TypeError: as in `generate`.
        """
        if isinstance(prompts, Request):
            if choices or n != 1 or seeds is not None:
                raise TypeError("generate_all() takes a Request alone: give the choices in it")
            return self.draw(self.plan_pictures(prompts))
        wanted = [prompts] if isinstance(prompts, str) else prompts
        plans = self._plans(wanted, n, seeds, choices)
        return [image for plan in plans for image in self._drawn(plan, choices.get("on_step"))]

    @named(EditChoices)
    def edit(self, image: PictureLike, prompt: str = "", **choices: Unpack[EditChoices]) -> GeneratedImage:
        """Edit an image: vary it, redraw what a mask leaves open, extend it, colourise, enlarge or denoise it.

        Args:
            image: a Pillow image, a path or an array.
            prompt: what the result shows.
            choices: mask, strength, kind and the others of `EditChoices`, which `help` lists.

        Raises:
            RequestError, TypeError: as in `generate`.
        """
        drawing: dict[str, Any] = {name: value for name, value in choices.items() if name not in EDIT_ONLY}
        return self.generate(prompt, edit=edit_of(image, choices), **drawing)

    @named(Choices)
    def iterate(self, prompt: str = "", **choices: Unpack[Choices]) -> Iterator[Step]:
        """Draw one image step by step: each `Step` has the image as it is then, the last one the result.

        Raises:
            RequestError, TypeError: as in `generate`.
        """
        (plan,) = self._plans([prompt], 1, None, choices)
        return self._steps(plan, choices.get("on_step"))

    def _plans(self, prompts: Sequence[str], n: int, seeds: Sequence[int] | None, choices: Choices) -> list[Plan]:
        """The plan of each prompt, or with seeds of each of its images."""
        given = {name: value for name, value in choices.items() if value is not None}
        fields: dict[str, Any] = {name: value for name, value in given.items() if name not in BESIDE_REQUEST}
        fields["control"] = opened(choices.get("control"), "control")
        if seeds is not None and (n != 1 or choices.get("seed") is not None):
            raise RequestError("seeds", "seeds has the seed of each image: leave out n and seed")
        if choices.get("levels") is not None and choices.get("steps") is not None:
            raise RequestError("levels", "levels says how many steps there are: leave out steps")
        own = [{}] if seeds is None else [{"seed": seed} for seed in seeds]
        requests = [Request(prompt, **{**fields, "images": n, **seed}) for prompt in prompts for seed in own]
        plans = [self.plan_pictures(request) for request in requests]
        return [planning.with_own(self.spec, plan, choices.get("noise"), choices.get("levels")) for plan in plans]

    def _steps(self, plan: Plan, on_step: OnStep) -> Iterator[Step]:
        for progress in self.run(plan):
            step = Step(progress.jump.index + 1, progress.steps, partial(self._now, plan, progress))
            if on_step is not None:
                on_step(step)
            yield step

    def _now(self, plan: Plan, progress: Progress) -> list[Image.Image]:
        """The images after a jump."""
        if progress.jump.index + 1 == progress.steps:
            return [*self.finish(plan, progress)]
        return [delivery.picture(self.saved, pixels, plan.delivery) for pixels in progress.previews]

    def _drawn(self, plan: Plan, on_step: OnStep) -> list[GeneratedImage]:
        *_, last = self._steps(plan, on_step)
        return [image for image in last.images if isinstance(image, GeneratedImage)]

    def save_pretrained(self, directory: str | Path) -> Path:
        """Copy the model's files into a directory, from which `load` opens them.

        Raises:
            FileExistsError: the directory is there and not empty.
        """
        return copied(self.saved, Path(directory))

    def push_to_hub(self, name: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Upload the model's files to `user/name` on the Hugging Face hub, which is created if it does not exist.

        Returns:
            The address of the commit.
        """
        from huggingface_hub import HfApi

        hub = HfApi(token=token)
        hub.create_repo(name, private=private, exist_ok=True)
        files = [DESCRIPTION, *self.spec.files]
        commit = hub.upload_folder(repo_id=name, folder_path=self.saved.directory, allow_patterns=files)
        return str(commit.commit_url)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what `load` was called with, and the hash: the network itself cannot be."""
        if self.reopen is None:
            raise TypeError("only a model from fewstep.load can be pickled")
        return _reopened, (self.reopen, self.hash)

    def plan(self, request: Request) -> Plan:
        """Make every choice that the request leaves open, including the seed, and check the others for this model.

        Raises:
            RequestError: as in `generate`.
        """
        return planning.plan(self.spec, request.seeded())

    def plan_pictures(self, request: Request) -> Plan:
        """`plan` for a model whose data are pictures.

        Raises:
            RequestError: as in `generate`, or the model makes points.
        """
        if self.spec.pixel_format == "points":
            raise RequestError("model", f"the model '{self.name}' makes points, not pictures: use plan and run")
        return self.plan(request)

    def run(self, plan: Plan, network: Network | None = None) -> Iterator[Progress]:
        """Run a plan jump by jump.

        Args:
            plan: the plan.
            network: a replacement for the model's own network, such as one shared with other runs.
        """
        counted = CountingNetwork(network or self.network)
        return running.run(self.spec, plan, counted, self.estimator(counted))

    def draw(self, plan: Plan) -> list[GeneratedImage]:
        """Run a plan to its end and return its images."""
        last: Progress | None = None
        for progress in self.run(plan):
            last = progress
        assert last is not None  # a plan has at least one step
        return self.finish(plan, last)

    def preview(self, plan: Plan, progress: Progress) -> Image.Image:
        """The current estimate of a plan's first image, in the form in which it will be delivered."""
        return delivery.picture(self.saved, progress.previews[0], plan.delivery)

    def finish(self, plan: Plan, last: Progress) -> list[GeneratedImage]:
        """Decode the last jump of a plan into images with records."""
        return delivery.finished(self._drawer, plan, last)

    def report(self, prompt: str) -> PromptReport | None:
        """The words of a prompt that this model never saw, and the captions nearest to it; None without text."""
        return delivery.prompt_report(self.saved, prompt)


def _reopened(reopen: Callable[[], Model], expected: str) -> Model:
    """A pickled model.

    Raises:
        ModelError: there is no such model any more, or another one under its name.
    """
    model = reopen()
    if model.hash != expected:
        raise ModelError(f"the pickled model was {expected[:10]}, and '{model.name}' is now {model.hash[:10]}")
    return model

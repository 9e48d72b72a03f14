"""A loaded model, which every surface calls to make images from requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PIL import Image

from fewstep.core.parameterisations import Network, Parameterised
from fewstep.editing.errors import RequestError
from fewstep.generation import delivery, planning, running
from fewstep.generation.planning import Plan
from fewstep.generation.request import Request
from fewstep.generation.running import CountingNetwork, Progress
from fewstep.models.saved import SavedModel
from fewstep.models.text import PromptReport
from fewstep.pictures.generated import GeneratedImage


class Model:
    """A loaded model.

    Args:
        saved: the model as read from its directory.
        network: the network, running on an engine.
        engine, precision, device: the engine, precision and device that records name.
    """

    def __init__(
        self, saved: SavedModel, network: Network, engine: str, precision: str = "float32", device: str = "cpu"
    ) -> None:
        self.saved, self.spec = saved, saved.spec
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

    def generate(self, prompt: str = "", **choices: Any) -> GeneratedImage:
        """Draw one image.

        Args:
            prompt: what to draw.
            choices: fields of `Request` other than `images`: seed, steps, guidance, size, background …

        Returns:
            A Pillow image with a `.record`.

        Raises:
            RequestError: a choice is out of range, or not available for this model.
        """
        if "images" in choices:
            raise RequestError("images", "generate draws one image; use generate_all for several")
        return self.generate_all(Request(prompt, **choices))[0]

    def generate_all(self, request: Request) -> list[GeneratedImage]:
        """Draw all images of a request.

        Raises:
            RequestError: as in `generate`.
        """
        return self.draw(self.plan_pictures(request))

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

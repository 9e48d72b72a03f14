"""What every surface of one server shares: the runtime, the kept images, the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fewstep.evaluation.recognise import Recogniser
from fewstep.generation import GeneratedImage, Model, Request
from fewstep.generation.images import to_pixels
from fewstep.serving.metrics import Metrics
from fewstep.serving.runtime import Runtime
from fewstep.serving.security import read_keys
from fewstep.serving.settings import ServeSettings
from fewstep.serving.store import Store


@dataclass
class Service:
    """One server's parts.

    Args:
        settings: how it serves.
        model: what it serves, loaded.
    """

    settings: ServeSettings
    model: Model
    ready: bool = False
    runtime: Runtime = field(init=False)
    store: Store = field(init=False)
    metrics: Metrics = field(init=False)
    keys: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Read the keys and start the threads.

        Raises:
            ValueError: the keys file is none.
        """
        chosen = self.settings
        self.keys = () if chosen.keys_file is None else read_keys(chosen.keys_file)
        self.store = Store(chosen.keep_images, chosen.keep_seconds)
        self.metrics = Metrics()
        self.runtime = Runtime(
            self.model, chosen.jobs, chosen.waiting, chosen.batch, chosen.network_cpus, self.metrics
        )
        self.metrics.watch(lambda: self.runtime.waiting, lambda: self.runtime.running)
        file = self.model.saved.recogniser
        self._judge = Recogniser(file, threads=1) if file.is_file() else None

    def warm_up(self) -> None:
        """Draw once, so that the first client does not wait for what is loaded late."""
        job = self.runtime.submit(Request("warm-up", seed=0), lambda drawn: self.recognise(drawn.images))
        job.future.result()
        self.ready = True

    def recognise(self, images: Sequence[GeneratedImage]) -> list[tuple[str | None, float | None]]:
        """What the model's recogniser sees in each image, and how sure it is; None without one."""
        if self._judge is None:
            return [(None, None)] * len(images)
        import numpy as np

        spec = self.model.spec
        pixels = np.stack([to_pixels(image, spec.pixels, spec.pixel_format) for image in images])
        verdict = self._judge(pixels)
        return [(name, round(float(sure), 4)) for name, sure in zip(verdict.names, verdict.confidence, strict=True)]

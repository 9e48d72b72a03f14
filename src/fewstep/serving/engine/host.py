"""The models of one server: the one it serves, and the teacher it was distilled from, to compare with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from fewstep.generation import Model, Request, load
from fewstep.models.finding import find
from fewstep.models.parts import ModelError
from fewstep.models.saved import SavedModel
from fewstep.serving.engine.errors import NotFound, ShuttingDown
from fewstep.serving.engine.runtime import Runtime


class ModelHost:
    """Finds the runtime of the model that a request names.

    Args:
        runtime: runs the served model.
        run_teacher: starts a runtime for the teacher, once it is loaded.
        aliases: other names of the served model.
        max_batch: samples in one network call.
        threads: of one network call of the teacher; None for one a core.
    """

    def __init__(
        self,
        runtime: Runtime,
        run_teacher: Callable[[Model], Runtime],
        aliases: Sequence[str] = (),
        max_batch: int = 32,
        threads: int | None = None,
    ) -> None:
        self.runtime = runtime
        self._run_teacher, self._aliases, self._threads = run_teacher, tuple(aliases), threads
        self._max_batch = max_batch
        self._warm = False
        self._teacher_runtime: Runtime | None = None
        self._loading = threading.Lock()

    @property
    def model(self) -> Model:
        """The served model."""
        return self.runtime.model

    @property
    def state(self) -> Literal["starting", "ready", "closed"]:
        """Whether it can draw: not yet, now, or not any more."""
        if self.runtime.closed:
            return "closed"
        return "ready" if self._warm else "starting"

    def serves(self, name: str | None) -> bool:
        """Whether this is a name of the served model; None is."""
        return name in (None, self.model.name, *self._aliases)

    async def find(self, name: str | None) -> Runtime:
        """The runtime of the model with this name; None for the served one.

        Raises:
            NotFound: there is no such model.
            ShuttingDown: the server is closing.
        """
        if self.serves(name):
            return self.runtime
        if self.teacher is not None and name == self.teacher.spec.name:
            return await asyncio.to_thread(self._loaded_teacher)
        raise NotFound("model", f"there is no model '{name}': this server has '{self.model.name}'", "model_not_found")

    def warm_up(self) -> None:
        """Draw at every batch size the network is built for, so that no client waits for what is loaded late.

        Requests that come meanwhile wait in the queue.

        Raises:
            ShuttingDown: it was stopped meanwhile.
        """
        prompt = "warm-up" if self.model.spec.conditioning.text_length else ""
        sizes = [size for size in getattr(self.model.network, "sizes", (1,)) if size <= self._max_batch]
        self.runtime.warm_up(Request(prompt, seed=0, images=size) for size in sizes)
        self._warm = True

    @cached_property
    def teacher(self) -> SavedModel | None:
        """The model that the served one was distilled from, if it is here: built in, or in the same folder."""
        saved = self.model.saved
        for entry in saved.spec.lineage:
            name = entry.get("teacher", "")
            if not name or Path(name).name != name:
                continue
            for place in (name, saved.directory.parent / name):
                try:
                    found = find(place)
                except ModelError:  # it is not there, or belongs to somebody else
                    continue
                if found.hash == entry.get("hash"):
                    return found
        return None

    def _loaded_teacher(self) -> Runtime:
        """The teacher's runtime: loaded when it is first asked for, which takes seconds."""
        assert self.teacher is not None
        with self._loading:
            if self.runtime.closed:
                raise ShuttingDown("the server is closing")
            if self._teacher_runtime is None:
                ours = self.model
                model = load(self.teacher.directory, ours.engine, ours.device, self._threads, ours.precision)
                self._teacher_runtime = self._run_teacher(model)
            return self._teacher_runtime

    def stop(self, timeout: float) -> None:
        """Refuse new requests, let the others end for `timeout` seconds, and stop what is left."""
        self.runtime.close(timeout)
        with self._loading:
            if self._teacher_runtime is not None:
                self._teacher_runtime.close(0)

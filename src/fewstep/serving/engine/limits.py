"""How much work a server does for one request."""

from __future__ import annotations

from dataclasses import dataclass

from fewstep.editing.fields import Field, Integer, Operation, Surface, Text
from fewstep.generation import Model, Request, RequestError
from fewstep.generation.planning import asked_steps, corrections
from fewstep.generation.request import OWN, fields_of


@dataclass(frozen=True)
class Limits:
    """The server's own bounds, the same on every surface.

    Args:
        max_images: images per request.
        max_steps: steps per request, corrections of the noise included.
        max_pixels: pixels of all images of a request together.
        max_prompt: characters of a prompt.
    """

    max_images: int
    max_steps: int
    max_pixels: int
    max_prompt: int

    def fields(self, surface: Surface, *operations: Operation) -> tuple[Field, ...]:
        """The fields of a surface for these operations, with the bounds of this server."""
        return tuple(self._limited(field) for field in fields_of(surface, *operations))

    def _limited(self, field: Field) -> Field:
        maxima = {"images": self.max_images, "steps": self.max_steps}
        maxima |= dict.fromkeys(("prompt", "to_prompt", "negative_prompt"), self.max_prompt)
        if field.name in maxima and isinstance(field, (Integer, Text)):
            return field.limited(maxima[field.name])
        return field

    def check(self, request: Request, model: Model) -> None:
        """Raise RequestError for a request that exceeds this server's limits."""
        for field in map(self._limited, OWN):
            value = getattr(request, field.name)
            if value is not None:
                field.check(value)
        self._check_corrections(request, model)
        self._check_pixels(request)

    def _check_corrections(self, request: Request, model: Model) -> None:
        """Each correction of the noise costs two evaluations per step."""
        steps, fit = asked_steps(model.spec, request), corrections(model.spec, request)
        if fit and steps * (1 + 2 * fit) > self.max_steps:
            allowed = f"steps · (1 + 2 · fit) at most {self.max_steps}"
            raise RequestError("fit", f"fit must leave {allowed}, got {fit} with {steps} steps")

    def _check_pixels(self, request: Request) -> None:
        width, height = delivered_size(request) or (0, 0)
        if width * height * request.images > self.max_pixels:
            raise RequestError(
                "size",
                f"all images of a request must have at most {self.max_pixels} pixels together, "
                f"got {request.images} of {width}x{height}",
            )


def delivered_size(request: Request) -> tuple[int, int] | None:
    """(width, height) of a request's images; None for the model's own."""
    return request.size or (request.edit.own_size if request.edit else None)

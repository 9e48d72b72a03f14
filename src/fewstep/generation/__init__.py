"""Generation: from a request to images with records, in the same way for every surface."""

from fewstep.editing.edits import Edit
from fewstep.editing.errors import RequestError
from fewstep.generation.choices import Choices, EditChoices, Step
from fewstep.generation.load import load
from fewstep.generation.model import Model
from fewstep.generation.request import Request
from fewstep.pictures.generated import GeneratedImage

__all__ = [
    "Choices",
    "Edit",
    "EditChoices",
    "GeneratedImage",
    "Model",
    "Request",
    "RequestError",
    "Step",
    "load",
]

"""Generation: from a request to images with records, the same for every surface."""

from fewstep.generation.edits import Edit
from fewstep.generation.errors import RequestError
from fewstep.generation.images import GeneratedImage
from fewstep.generation.model import Model, load
from fewstep.generation.request import Request

__all__ = ["Edit", "GeneratedImage", "Model", "Request", "RequestError", "load"]

"""Generation: from a request to images with records, the same for every surface."""

from fewstep.generation.images import GeneratedImage
from fewstep.generation.model import Model, load
from fewstep.generation.request import Request, RequestError

__all__ = ["GeneratedImage", "Model", "Request", "RequestError", "load"]

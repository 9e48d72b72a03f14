"""Data sources: emoji, digits, image folders, Hugging Face data sets, WebDataset shards and 2-D toys."""

from fewstep.data.dataset import DataError, Dataset, Example, Skipped, examples, prefetched
from fewstep.data.digits import Digits
from fewstep.data.hugging_face import HuggingFace
from fewstep.data.image_folder import ImageFolder
from fewstep.data.preview import contact_sheet
from fewstep.data.shards import Shards
from fewstep.data.sources import channel_statistics, open_pictures
from fewstep.data.toys import Mixture, PointSet, checkerboard, ring, spiral, two_moons

__all__ = [
    "DataError",
    "Dataset",
    "Digits",
    "Example",
    "HuggingFace",
    "ImageFolder",
    "Mixture",
    "PointSet",
    "Shards",
    "Skipped",
    "channel_statistics",
    "checkerboard",
    "contact_sheet",
    "examples",
    "open_pictures",
    "prefetched",
    "ring",
    "spiral",
    "two_moons",
]

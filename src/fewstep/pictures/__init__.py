"""The record of how an image was made: stored in the image itself, read back exactly, compared with another.

It needs only the standard library and Pillow, so any program that handles the images can read it.
"""

from fewstep.pictures.a1111 import parameters
from fewstep.pictures.describe import Change, details, difference, sentence
from fewstep.pictures.embed import encode, image_hash, read_record, save
from fewstep.pictures.files import write_whole
from fewstep.pictures.plain import Json, ProvenanceError
from fewstep.pictures.record import FORMAT_VERSION, Record, installed
from fewstep.pictures.xmp import DIGITAL_SOURCE_TYPE

__all__ = [
    "DIGITAL_SOURCE_TYPE",
    "FORMAT_VERSION",
    "Change",
    "Json",
    "ProvenanceError",
    "Record",
    "details",
    "difference",
    "encode",
    "image_hash",
    "installed",
    "parameters",
    "read_record",
    "save",
    "sentence",
    "write_whole",
]

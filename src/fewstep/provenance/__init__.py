"""The record of what made an image, as plain values with an exact JSON round trip.

It needs only the standard library.
"""

from fewstep.provenance.plain import Json, ProvenanceError
from fewstep.provenance.record import FORMAT_VERSION, Record, installed

__all__ = ["FORMAT_VERSION", "Json", "ProvenanceError", "Record", "installed"]

"""XMP packets that declare an image as generated (IPTC DigitalSourceType) and can contain the full record.

Storage in JPEG follows the XMP specification, part 3, section 1.1.3: a packet too large for one marker becomes an
extended packet, split over several.
"""

import hashlib
import struct
from collections.abc import Iterable
from html import escape

from fewstep.pictures.plain import ProvenanceError
from fewstep.pictures.record import Record

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

_DECLARATION = f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
_FEWSTEP = "https://github.com/fewstep/fewstep/ns/1.0/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_STANDARD = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENSION_HEADER = struct.Struct(">32sII")  # MD5 of the whole packet as text, its length, the offset of this part
_PACKET_LIMIT = 65502
_PART_LIMIT = 65400


def packet(record: Record, *, full: bool) -> bytes:
    """The XMP packet of an image; with `full` it contains the record, otherwise only the declaration."""
    return _wrapped(_DECLARATION + (_name(record) + _record(record) if full else ""))


def jpeg_segments(record: Record) -> bytes:
    """The APP1 markers with the packet and, if it is too long for one marker, its extension."""
    whole = packet(record, full=True)
    if len(whole) <= _PACKET_LIMIT:
        return _segment(_STANDARD + whole)
    extension = _rdf(_record(record)).encode()
    guid = hashlib.md5(extension, usedforsecurity=False).hexdigest().upper()
    main = _wrapped(_DECLARATION + _name(record) + f"<xmpNote:HasExtendedXMP>{guid}</xmpNote:HasExtendedXMP>")
    parts = [
        _EXTENSION
        + _EXTENSION_HEADER.pack(guid.encode(), len(extension), start)
        + extension[start : start + _PART_LIMIT]
        for start in range(0, len(extension), _PART_LIMIT)
    ]
    return b"".join(_segment(payload) for payload in (_STANDARD + main, *parts))


def record_in_packet(found: bytes) -> str | None:
    """The record's JSON in a packet, or None. Raises ProvenanceError if a record is announced but missing."""
    return _announced(_properties(found))


def record_in_segments(segments: Iterable[bytes]) -> str | None:
    """`record_in_packet` for the payloads of a JPEG's APP1 markers."""
    payloads = list(segments)
    main = next((p.removeprefix(_STANDARD) for p in payloads if p.startswith(_STANDARD)), None)
    if main is None:
        return None
    properties = _properties(main)
    guid = properties.get(f"{{{_NOTE}}}HasExtendedXMP")
    if guid is not None and f"{{{_FEWSTEP}}}recordId" in properties:
        properties |= _properties(_extension(payloads, guid))
    return _announced(properties)


def _announced(properties: dict[str, str]) -> str | None:
    name = properties.get(f"{{{_FEWSTEP}}}recordId")
    found = properties.get(f"{{{_FEWSTEP}}}record")
    if name is not None and found is None:
        raise ProvenanceError(f"the XMP names record {name} but the record itself is missing")
    return found


def _extension(payloads: Iterable[bytes], guid: str) -> bytes:
    """The extended packet, assembled from its parts in any order."""
    parts: dict[int, bytes] = {}
    head = len(_EXTENSION) + _EXTENSION_HEADER.size
    for payload in payloads:
        if payload.startswith(_EXTENSION) and len(payload) >= head:
            owner, _, start = _EXTENSION_HEADER.unpack(payload[len(_EXTENSION) : head])
            if owner == guid.encode():
                parts[start] = payload[head:]
    whole = b"".join(parts[start] for start in sorted(parts))
    if hashlib.md5(whole, usedforsecurity=False).hexdigest().upper() != guid.upper():
        raise ProvenanceError(f"the extended XMP is damaged: its {len(whole)} bytes do not match its digest")
    return whole


def _properties(found: bytes) -> dict[str, str]:
    """The simple properties of a packet by `{namespace}name`; both of RDF's notations are supported.

    A packet that cannot be parsed is ignored as another program's, unless it contains our namespace.
    """
    from xml.etree import ElementTree  # only needed for reading; drawing an image should start at once

    try:
        if b"<!DOCTYPE" in found:  # not allowed in XMP, and entities can make a small XML file explode in size
            raise ProvenanceError("the XMP declares a document type, which XMP must not")
        tree = ElementTree.fromstring(found)
    except (ElementTree.ParseError, ProvenanceError, ValueError) as error:
        if _FEWSTEP.encode() in found:
            raise ProvenanceError(f"the XMP with the record cannot be read: {error}") from error
        return {}
    properties: dict[str, str] = {}
    for description in tree.iter(f"{{{_RDF}}}Description"):
        properties |= description.attrib
        properties |= {child.tag: child.text or "" for child in description}
    return properties


def _name(record: Record) -> str:
    # It announces the record, so that a record lost on the way is reported as an error.
    return f"<fewstep:recordId>{record.id}</fewstep:recordId>"


def _record(record: Record) -> str:
    return f"<fewstep:record>{escape(record.to_json(), quote=False)}</fewstep:record>"


def _rdf(properties: str) -> str:
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"><rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f' xmlns:xmpNote="{_NOTE}" xmlns:fewstep="{_FEWSTEP}">'
        f"{properties}</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def _wrapped(properties: str) -> bytes:
    # The byte-order mark and the id are constants of the XMP specification.
    start = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    return f'{start}{_rdf(properties)}<?xpacket end="w"?>'.encode()


def _segment(payload: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload

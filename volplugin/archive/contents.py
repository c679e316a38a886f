"""What an archive says of its volume: in its header, in each frame, and at its end. Pure.

A volume is taken as chunks of one size. A chunk without a frame is zeros, or, in an archive that says what has changed
since an earlier one, as it was there. A later frame of a chunk stands in the place of an earlier one.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Annotated

import msgspec

from volplugin.values import parse_size

CHUNK_BYTES = 1 << 20
# Before the compressed content of a chunk: its number, and the digest of what it is.
DATA = struct.Struct(">Q32s")
ZEROS = struct.Struct(">Q")

Digests = Mapping[int, bytes]
Word = Annotated[str, msgspec.Meta(max_length=256)]


class Reference(msgspec.Struct, frozen=True):
    """An archive, and the digest of all that the volume was in it."""

    archive: Word
    content: Word


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The beginning of an archive, or of the rest of one that was interrupted.

    archive: its ID. options: as with `docker volume create -o`. data_bytes: at most so much of it is not zeros. salt:
    random, in hexadecimal digits. base: the archive that it says the changes since; None: it is whole in itself.
    frames: how many there are before it. snapshot: of which it was made; "": of none that stays. image: its identity.
    """

    archive: Word
    volume: Word
    created_at: datetime
    options: dict[str, str]
    size: Annotated[int, msgspec.Meta(ge=1, lt=1 << 62)]
    data_bytes: Annotated[int, msgspec.Meta(ge=0)]
    salt: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    cipher: Word = ""
    base: Reference | None = None
    frames: int = 0
    snapshot: Word = ""
    image: Word = ""

    @property
    def chunks(self) -> int:
        """How many chunks the volume has."""
        return -(-self.size // CHUNK_BYTES)

    def chunk_bytes(self, number: int) -> int:
        """Return how long a chunk is: the last one may be shorter."""
        return min(CHUNK_BYTES, self.size - number * CHUNK_BYTES)


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The end of an archive: how many frames were before it, and each chunk of the volume that is not zeros."""

    frames: int
    digests: dict[int, bytes]


def is_sized(header: Header) -> bool:
    """Tell whether the header gives one size."""
    try:
        return parse_size(header.options.get("size", "")) == header.size
    except ValueError:
        return False


def content_digest(size: int, digests: Digests) -> str:
    """Return what no volume has whose content is another."""
    whole = sha256(size.to_bytes(8, "big"))
    for number in sorted(digests):
        whole.update(number.to_bytes(8, "big") + digests[number])
    return whole.hexdigest()

"""The key by which other hosts know this one's encrypted packets: made once, never told. Source: RFC 7748; wg(8)."""

from __future__ import annotations

import os
import threading
from base64 import b64decode, b64encode
from functools import cached_property
from pathlib import Path

from pluginkit.errors import StateError

FILE = "wireguard.key"
_KEY_BYTES = 32


class HostKey:
    """This host's key pair. Its file is made when the key is first asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    @cached_property
    def private(self) -> str:
        """The private key in base64, as wg(8) has it. Raises: StateError: its file cannot be used."""
        with self._lock:
            try:
                text = self._path.read_text(encoding="ascii", errors="replace").strip()
            except FileNotFoundError:
                text = self._make()
            except OSError as exc:
                raise StateError(f"cannot read the key {self._path}: {exc.strerror}") from exc
        self._packed(text)
        return text

    @cached_property
    def public(self) -> str:
        """The public key that belongs to it. Raises: StateError."""
        # Slow to import, and few hosts encrypt.
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        private = X25519PrivateKey.from_private_bytes(self._packed(self.private))
        return b64encode(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()

    def _packed(self, text: str) -> bytes:
        try:
            packed = b64decode(text, validate=True)
        except ValueError:
            packed = b""
        if len(packed) != _KEY_BYTES:
            raise StateError(
                f"cannot use the key {self._path}: it holds no WireGuard key; delete it, and pynet makes another one,"
                " of which other hosts are told"
            )
        return packed

    def _make(self) -> str:
        """The file holds a new key, also after a power cut; return that. Nobody but its owner ever could read it."""
        drawn = bytearray(os.urandom(_KEY_BYTES))
        # So that whoever reads it back sees what WireGuard makes of it. Source: RFC 7748 section 5.
        drawn[0] &= 248
        drawn[31] = drawn[31] & 127 | 64
        text = b64encode(drawn).decode()
        new = self._path.with_suffix(".new")
        try:
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{text}\n")
                file.flush()
                os.fsync(descriptor)
            new.rename(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as exc:
            raise StateError(f"cannot write the key {self._path}: {exc.strerror}") from exc
        return text

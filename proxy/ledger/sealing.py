"""Sealing under ``ledger.encryption_keys``: stored answers, and the ledger's own secrets.

AES-256-GCM with a random 96-bit nonce (NIST SP 800-38D, 8.2.2). What is sealed is one version byte, the first four bytes of
the SHA-256 of the key, the nonce, and the ciphertext with its tag. The associated data names the place where it stands, so
that it opens nowhere else.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION: Final = b"\x01"
"""Clear headers begin with ``[`` (JSON), a clear body with zstd's magic number (RFC 8878, 3.1.1), or it is empty."""

KEY_BYTES: Final = 32
_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_PREFIX_BYTES: Final = len(VERSION) + _ID_BYTES + _NONCE_BYTES

_TOLD_MAX: Final = 1000
"""So many unreadable answers are told of one by one; a ledger with more of them has been told of enough."""


class Unreadable(Exception):
    """What is stored can't be read. *about* is the same for what has the same cause: a key's id, or nothing."""

    def __init__(self, message: str, *, about: str | None = None) -> None:
        super().__init__(message)
        self.about = about


class Keyring:
    """The keys, newest first: the newest seals, any of them opens. Without keys nothing is sealed.

    *on_unreadable* is told the id of an entry whose answer can't be read, and why: once for each key that is missing, and once
    for each entry otherwise. It may be called on any thread.
    """

    def __init__(self, keys: Sequence[bytes] = (), on_unreadable: Callable[[str, str], None] | None = None) -> None:
        if any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"an encryption key has {KEY_BYTES} bytes")
        self._ciphers = {_id_of(key): AESGCM(key) for key in keys}
        self._newest = _id_of(keys[0]) if keys else None
        self._on_unreadable = on_unreadable
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(key_id.hex() for key_id in self._ciphers) or 'empty'}>"

    @property
    def seals(self) -> bool:
        """Whether there are keys."""
        return self._newest is not None

    def seal(self, plain: bytes, place: bytes) -> bytes:
        """*plain* sealed with the newest key, to open at *place* only."""
        assert self._newest is not None  # asked first
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._newest].encrypt(nonce, plain, place)
        return b"".join((VERSION, self._newest, nonce, sealed))

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """What :meth:`seal` was given. Raises :class:`Unreadable`."""
        if not is_sealed(sealed) or len(sealed) < _PREFIX_BYTES + _TAG_BYTES:
            raise Unreadable("it is cut short")
        key_id = _key_id(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            why = f"it is sealed with encryption key {key_id.hex()}, which is not among ledger.encryption_keys"
            raise Unreadable(why, about=key_id.hex())
        try:
            return cipher.decrypt(sealed[_PREFIX_BYTES - _NONCE_BYTES : _PREFIX_BYTES], sealed[_PREFIX_BYTES:], place)
        except InvalidTag:
            raise Unreadable(f"it does not open with encryption key {key_id.hex()}: it was changed or moved") from None

    def is_newest(self, sealed: bytes) -> bool:
        """Whether *sealed* is under the key that seals now."""
        return _key_id(sealed) == self._newest

    def tell(self, entry_id: str, problem: Unreadable) -> None:
        """Tell of an answer that can't be read, unless that has been told."""
        about = problem.about or entry_id
        if self._on_unreadable is not None and about not in self._told and len(self._told) < _TOLD_MAX:
            self._told.add(about)
            self._on_unreadable(entry_id, str(problem))


def is_sealed(stored: bytes) -> bool:
    """Whether *stored* is sealed, by its first byte."""
    return stored[:1] == VERSION


def place(*parts: str | int) -> bytes:
    """Where something stands, as associated data. No part holds a zero byte."""
    return "\0".join(map(str, parts)).encode()


def _id_of(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:_ID_BYTES]


def _key_id(sealed: bytes) -> bytes:
    return sealed[len(VERSION) : len(VERSION) + _ID_BYTES]

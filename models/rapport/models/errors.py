"""The errors of models.

ModelError
├── UnknownModelError      no such model in the catalog
├── FetchError             the file could not be fetched, or is not the expected one
├── UnsupportedModelError  the file has something that Rapport does not support
├── CorruptFileError       the file is damaged
└── CacheError             the cache cannot be read or written

Every message is one line that says what failed, where, and what to run.
"""

from __future__ import annotations


class ModelError(Exception):
    pass


class UnknownModelError(ModelError):
    pass


class FetchError(ModelError):
    pass


class UnsupportedModelError(ModelError):
    pass


class CorruptFileError(ModelError):
    pass


class CacheError(ModelError):
    pass

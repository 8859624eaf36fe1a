"""What can go wrong with a model.

ModelError
├── UnknownModelError      no such model in the catalog
├── FetchError             the source could not be fetched or is not what was expected
├── UnsupportedModelError  the file holds something that Rapport cannot build
├── CorruptFileError       the file cannot be read as what it claims to be
└── CacheError             the disk refused

Every message is one line: what failed, where, and what to run.
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

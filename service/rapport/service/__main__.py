"""`python -m rapport.service`: the gRPC service alone."""

from __future__ import annotations

import os

# gRPC's core would log errors that it also raises.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import logging
import sys
from collections.abc import Sequence

import uvloop

from rapport.common.process import show_stacks
from rapport.common.settings import SettingsError, load
from rapport.common.telemetry.logs import set_up
from rapport.common.telemetry.traces import TracesError, tracing
from rapport.common.tls import CertificateError
from rapport.service.config import ServiceSettings
from rapport.service.engine.runtime.providers import ProviderError
from rapport.service.keys.key_file import KeyFileError
from rapport.service.process import KvBudgetError, UnusableModelError, run
from rapport.service.server import PortTakenError

logger = logging.getLogger("rapport.service")


def main(args: Sequence[str] | None = None) -> int:
    """Serves until a signal comes. Returns 2 if a setting is invalid, 1 if the start fails.

    `rapport.service.process` may end the process with another status.
    """
    show_stacks()
    try:
        settings = load(ServiceSettings, sys.argv[1:] if args is None else args)
    except SettingsError as error:
        return _reject(str(error))
    if (folder := settings.model_folder) is None:
        return _reject("model_folder: the folder of the model to serve is required")
    set_up(settings)
    try:
        with tracing("rapport-service", settings) as tracer:
            uvloop.run(run(settings, folder, tracer))
    except KvBudgetError as error:
        logger.error("%s", error)  # noqa: TRY400 - the line is for users
        return 2
    except (
        CertificateError,
        KeyFileError,
        PortTakenError,
        ProviderError,
        TracesError,
        UnusableModelError,
    ) as error:
        logger.error("%s", error)  # noqa: TRY400 - the line is for users
        return 1
    return 0


def _reject(reason: str) -> int:
    sys.stderr.write(f"rapport service: {reason}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())

"""`python -m rapport.service`: the gRPC service alone."""

from __future__ import annotations

import os

# gRPC's core would log a second time what it also raises.
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
from rapport.service.process import UnusableModelError, run
from rapport.service.server import PortTakenError

logger = logging.getLogger("rapport.service")


def main(args: Sequence[str] | None = None) -> int:
    """Serves until told to stop. Returns 2 if settings are wrong, 1 if the start fails.

    Ends the process with another status where `service.process` says so.
    """
    show_stacks()
    try:
        settings = load(ServiceSettings, sys.argv[1:] if args is None else args)
    except SettingsError as error:
        return refuse(str(error))
    if (folder := settings.model_folder) is None:
        return refuse("model_folder: the folder of the model to serve is required")
    set_up(settings)
    try:
        with tracing("rapport-service", settings) as tracer:
            uvloop.run(run(settings, folder, tracer))
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


def refuse(why: str) -> int:
    sys.stderr.write(f"rapport service: {why}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())

"""`rapport top`: a live view of a running server in the terminal."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from http.client import HTTPException

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from rapport.cli.frame import frame
from rapport.cli.scrape import Interval, Scrape, scrape
from rapport.common.telemetry.formatters import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Shows a frame each interval until Ctrl-C, or one. Returns the exit status."""
    options = parser().parse_args(arguments)
    options.urls = options.urls or [address("METRICS_PORT", 9464)]
    console = Console()
    # Also where it was started in the background, for which shells have Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if options.once:
            return show_one(console, options)
        watch(console, options)
    except KeyboardInterrupt:
        console.print()
    return 0


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="rapport top", description=__doc__)
    options.add_argument(
        "--url",
        action="append",
        dest="urls",
        help="URL of its metrics; more of them show replicas",
    )
    options.add_argument(
        "--gateway-url",
        default=address("GATEWAY_METRICS_PORT", 9465),
        help="metrics URL of the gateway; omitted if it does not answer",
    )
    options.add_argument("--interval", type=interval, default=2.0, help="seconds between frames")
    options.add_argument("--once", action="store_true", help="show one interval and exit")
    return options


def address(name: str, port: int) -> str:
    return f"http://127.0.0.1:{os.environ.get(f'RAPPORT_{name}') or port}/metrics"


def interval(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("should be a number of seconds above 0")
    return seconds


class Watched:
    """A process whose metrics are scraped periodically."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._last: Scrape | None = None
        self.problem = ""
        """Why the last scrape failed."""

    def look(self) -> Interval | None:
        """What happened since the last look; None if that is not known, or nothing answers."""
        before, self._last = self._last, None
        try:
            self._last = scrape(self._url)
        except (OSError, HTTPException, ValueError) as error:
            self.problem = printable(f"{self._url} gives no metrics: {error}")
            return None
        return Interval.between(before, self._last) if before is not None else None

    @property
    def there(self) -> bool:
        return self._last is not None


def watch(console: Console, options: argparse.Namespace) -> None:
    """Shows frames until interrupted. A service that does not answer is tried again."""
    services, gateway = watched(options)
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            live.update(look(services, gateway), refresh=True)
            time.sleep(options.interval)


def watched(options: argparse.Namespace) -> tuple[list[Watched], Watched]:
    """The services and the gateway."""
    return [Watched(url) for url in options.urls], Watched(options.gateway_url)


def look(services: Sequence[Watched], gateway: Watched) -> RenderableType:
    """A frame for each service; the gateway is in the last one."""
    beside = gateway.look()
    *others, last = [(service, service.look()) for service in services]
    return Group(*(part(*other, None) for other in others), part(*last, beside))


def part(service: Watched, seen: Interval | None, beside: Interval | None) -> RenderableType:
    if seen is not None:
        return frame(seen, beside)
    return Text("measuring …" if service.there else f"{service.problem}; trying again")


def show_one(console: Console, options: argparse.Namespace) -> int:
    """Shows one frame of each, if all of them answer."""
    services, gateway = watched(options)
    look(services, gateway)
    if all(service.there for service in services):
        time.sleep(options.interval)
        shown = look(services, gateway)
        if all(service.there for service in services):
            console.print(shown)
            return 0
    problem = next(service.problem for service in services if not service.there)
    sys.stderr.write(f"rapport top: {problem}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

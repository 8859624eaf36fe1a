"""Proxies of other makers as processes, in front of a gateway."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import shutil
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from bench.server import free_ports

# The extra `envoy` puts it there.
ENVOY = Path(sys.executable).with_name("envoy")
# Debian's stands where only root looks for programs.
NGINX_PATH = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin"

# What every configuration of nginx has, with its own files in the folder where it is started.
NGINX = """
daemon off; pid nginx.pid; error_log stderr; user {user} {group};
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {upstream}; {settings} }} }}
}}
"""


@asynccontextmanager
async def nginx(folder: Path, upstream: str, settings: str = "") -> AsyncIterator[str]:
    """The URL of an nginx with its defaults and these settings."""
    program = shutil.which("nginx", path=NGINX_PATH)
    if program is None:
        pytest.skip("there is no nginx (Debian: apt-get install nginx-light)")
    port = free_ports(1)[0]
    file = folder / "nginx.conf"
    account = pwd.getpwuid(os.getuid())
    text = NGINX.format(
        port=port,
        upstream=upstream,
        settings=settings,
        user=account.pw_name,
        group=grp.getgrgid(account.pw_gid).gr_name,
    )
    file.write_text(text)
    async with _running(port, program, "-p", str(folder), "-c", str(file), "-e", "stderr") as url:
        yield url


@asynccontextmanager
async def envoy(folder: Path, upstream: str, **route: str) -> AsyncIterator[str]:
    """The URL of an Envoy with its defaults and these settings of its route."""
    if not ENVOY.exists():
        pytest.skip("there is no Envoy: `make clients` installs the extra")
    port = free_ports(1)[0]
    file = folder / "envoy.yaml"
    file.write_text(yaml.safe_dump(_envoy_settings(port, upstream, route)))
    flags = ("--config-path", str(file), "--concurrency", "1", "--use-dynamic-base-id")
    async with _running(port, str(ENVOY), *flags) as url:
        yield url


def _envoy_settings(port: int, upstream: str, route: dict[str, str]) -> dict[str, object]:
    host, _, upstream_port = upstream.removeprefix("http://").partition(":")
    extensions = "type.googleapis.com/envoy.extensions.filters"
    manager = f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager"
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "rapport", **route}}]
    hosts = [{"name": "all", "domains": ["*"], "routes": routes}]
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{extensions}.http.router.v3.Router"},
    }
    connections = {
        "@type": manager,
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [router],
    }
    network = {"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}
    listener = {
        "name": "http",
        "address": _address("127.0.0.1", port),
        "filter_chains": [{"filters": [network]}],
    }
    endpoint = {"endpoint": {"address": _address(host, int(upstream_port))}}
    cluster = {
        "name": "rapport",
        "load_assignment": {
            "cluster_name": "rapport",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


@asynccontextmanager
async def _running(port: int, *command: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        await _until_listening(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _until_listening(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(30):
        while True:
            assert process.returncode is None
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return

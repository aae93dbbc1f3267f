"""nginx with ``proxy_pass``, keep-alive on both sides and an access log in JSON, where it is on the PATH."""

from __future__ import annotations

import os
import shutil

from bench.harness import CORES, Stage, free_port
from bench.peers.base import PeerMissing, Proxy

_CONFIGURATION = """\
{modules}
{user}
daemon off;
worker_processes 1;
error_log stderr error;
pid {folder}/nginx.pid;
events {{ worker_connections 16384; }}
http {{
  log_format access escape=json '{{"time":"$time_iso8601","method":"$request_method","path":"$uri",'
    '"status":$status,"bytes_in":$request_length,"bytes_out":$body_bytes_sent,"duration":$request_time,'
    '"upstream":"$upstream_addr","request_id":"$request_id"}}';
  access_log {access_log};
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  client_body_buffer_size 1m;
  keepalive_requests 100000000;
  keepalive_timeout 75s;
  upstream app {{
    server 127.0.0.1:{upstream_port};
    keepalive 256;
    keepalive_requests 100000000;
  }}
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Request-ID $request_id;
  server {{
    listen 127.0.0.1:{port};
{server}
  }}
}}
"""
_PASS_ON = "    location / { proxy_pass http://app; }"


def executable() -> str:
    """Where nginx is.

    Raises:
        PeerMissing: It is not on the PATH.
    """
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise PeerMissing("nginx is not on the PATH")
    return found


def _user() -> str:
    """As root, nginx would hand its worker to a user who may not enter the stage's folder."""
    return "user root;" if os.geteuid() == 0 else ""


def start(
    stage: Stage,
    upstream_port: int,
    *,
    name: str = "nginx",
    modules: str = "",
    server: str = _PASS_ON,
    access_log: bool = True,
) -> Proxy:
    """Start nginx.

    Args:
        stage: Owns the process and its files.
        upstream_port: Where ``upstream app`` leads.
        name: For tables, and of the files.
        modules: Directives before everything else.
        server: Directives for the ``server`` block; passes everything on if not given.
        access_log: Whether a JSON line is written for each request.

    Raises:
        PeerMissing: nginx is not on the PATH.
    """
    command = executable()
    port = free_port()
    log = f"{stage.folder}/{name}-access.log access buffer=64k flush=1s" if access_log else "off"
    text = _CONFIGURATION.format(
        folder=stage.folder, port=port, upstream_port=upstream_port,
        modules=modules, user=_user(), server=server, access_log=log,
    )  # fmt: skip
    configuration = stage.write(f"{name}.conf", text)
    arguments = [command, "-p", str(stage.folder), "-c", str(configuration), "-e", "stderr"]
    return Proxy(name, port, stage.start_listening(name, arguments, port, cores=CORES.proxy))

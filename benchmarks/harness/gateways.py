"""The gateways under test, each in front of the same upstream: the daemon, nginx, HAProxy, Quart with httpx.

The upstream is nginx too: one worker, ``return 200`` from memory, and a file of 64 KiB. It is three instances to all of
them: three ports of the one process.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import attrs

from benchmarks.harness.processes import Cores, accepts, environment, free_port, running, wait_for

INSTANCES = 3
LARGE = 64 * 1024
SMALL = json.dumps({"messageId": "AAMkAGI2TG93AAA=", "status": "processed", "labels": ["invoice", "urgent"]})
_ELSEWHERE = {"nginx": "/usr/sbin/nginx", "haproxy": "/usr/sbin/haproxy"}


@attrs.frozen
class Gateway:
    """A system that is running, and where it passes requests on."""

    port: int
    pid: int | None
    """Whose cpu time counts; None: nobody's, there is none between."""
    prefix: str = "/v1/mesh/workers"


def program(name: str) -> str | None:
    """Where a program is: /usr/sbin is in few users' PATH."""
    found = shutil.which(name)
    return found or (_ELSEWHERE[name] if os.access(_ELSEWHERE[name], os.X_OK) else None)


_HTTP = """
worker_processes 1;
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/json;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
    {servers}
}}
"""
_UPSTREAM = """
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        open_file_cache max=10;
        location / {{ return 200 '{small}'; }}
        location = /large {{ root {folder}; }}
    }}
"""
_PROXY = """
    upstream workers {{
        least_conn;
        {servers}
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location /v1/mesh/workers/ {{
            proxy_pass http://workers/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Request-Id $request_id;
        }}
    }}
"""
_HAPROXY = """
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 30s
    retries 3
    option redispatch
    http-reuse always
frontend gateway
    bind 127.0.0.1:{port}
    default_backend workers
backend workers
    balance leastconn
    option forwardfor
    http-request set-header X-Request-Id %[uuid()]
    http-request replace-path /v1/mesh/workers(/.*) \\1
{servers}
"""


def _nginx_configuration(folder: Path, servers: str) -> Path:
    path = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # or the worker could not read the folder
    path.write_text(_HTTP.format(folder=folder, user=user, servers=servers))
    return path


@contextmanager
def _started(arguments: list[str], folder: Path, cpu: int | None, port: int, name: str) -> Iterator[Gateway]:
    log = folder / "log"
    with running(arguments, log, cpu, name) as process:
        wait_for(lambda: accepts(port), process, log)
        yield Gateway(port, process.pid)


@contextmanager
def open_upstream(folder: Path, cores: Cores) -> Iterator[tuple[int, list[int]]]:
    """Start the upstream beside the load; return its pid and its ports."""
    ports = [free_port() for _ in range(INSTANCES)]
    (folder / "large").write_bytes(b"x" * LARGE)
    nginx = program("nginx")
    if nginx is None:
        raise SystemExit("The upstream is nginx, and there is none (Debian: apt-get install nginx-light).")
    servers = "".join(_UPSTREAM.format(port=port, small=SMALL, folder=folder) for port in ports)
    configuration = _nginx_configuration(folder, servers)
    arguments = ["-e", str(folder / "error.log"), "-c", str(configuration)]
    with _started(arguments, folder, cores.load, ports[-1], nginx) as gateway:
        assert gateway.pid is not None
        yield gateway.pid, ports


@contextmanager
def open_direct(_folder: Path, _cores: Cores, ports: list[int]) -> Iterator[Gateway]:
    """Nothing between: what the load and the upstream themselves need."""
    yield Gateway(ports[0], None, "")


@contextmanager
def open_nginx(folder: Path, cores: Cores, ports: list[int]) -> Iterator[Gateway]:
    """nginx, one worker, connections to the upstreams kept."""
    port, nginx = free_port(), program("nginx")
    assert nginx is not None
    servers = "".join(f"server 127.0.0.1:{one};" for one in ports)
    configuration = _nginx_configuration(folder, _PROXY.format(port=port, servers=servers))
    arguments = ["-e", str(folder / "error.log"), "-c", str(configuration)]
    with _started(arguments, folder, cores.system, port, nginx) as gateway:
        yield gateway


@contextmanager
def open_haproxy(folder: Path, cores: Cores, ports: list[int]) -> Iterator[Gateway]:
    """HAProxy, one thread, connections to the upstreams kept."""
    port, haproxy = free_port(), program("haproxy")
    assert haproxy is not None
    servers = "\n".join(f"    server w{number} 127.0.0.1:{one}" for number, one in enumerate(ports))
    (folder / "haproxy.cfg").write_text(_HAPROXY.format(port=port, servers=servers))
    arguments = ["-db", "-f", str(folder / "haproxy.cfg")]
    with _started(arguments, folder, cores.system, port, haproxy) as gateway:
        yield gateway


@contextmanager
def open_quart(folder: Path, cores: Cores, ports: list[int]) -> Iterator[Gateway]:
    """Quart on Hypercorn with httpx: see the program."""
    port = free_port()
    upstreams = [argument for one in ports for argument in ("--upstream", f"http://127.0.0.1:{one}")]
    script = str(Path(__file__).resolve().parents[1] / "rivals" / "quart_proxy.py")
    log = folder / "log"
    with running([script, "--port", str(port), *upstreams], log, cores.system) as process:
        wait_for(lambda: accepts(port), process, log)
        yield Gateway(port, process.pid)


@contextmanager
def open_ours(folder: Path, cores: Cores, ports: list[int]) -> Iterator[Gateway]:
    """The daemon with its defaults, the upstreams registered with it."""
    config, ready, log = folder / "econeura.toml", folder / "ready.json", folder / "log"
    config.write_text(f'[daemon]\nstate_dir = "{folder}"\n[http]\nbind = ["127.0.0.1:0"]\n')
    with running(["-m", "econeura_daemon", "serve", "--config", str(config)], log, cores.system) as process:
        wait_for(ready.exists, process, log)
        url = json.loads(ready.read_text())["urls"][0]
        for number, port in enumerate(ports):
            said = {
                "id": f"w{number}",
                "type": "workers",
                "host": "127.0.0.1",
                "port": port,
                "ttlMs": 3_600_000,
            }
            request = Request(
                f"{url}/v1/services", json.dumps(said).encode(), {"Content-Type": "application/json"}
            )
            with urlopen(request):
                pass
        port = urlsplit(url).port
        assert port is not None
        yield Gateway(port, process.pid)


def version_of(name: str) -> str:
    """What an installed rival calls itself."""
    path = program(name)
    assert path is not None
    said = subprocess.run([path, "-v"], capture_output=True, text=True, env=environment(), check=True)
    return (said.stdout or said.stderr).splitlines()[0]


SYSTEMS = {
    "direct": ("no gateway", open_direct),
    "ours": ("ours", open_ours),
    "nginx": ("nginx", open_nginx),
    "haproxy": ("HAProxy", open_haproxy),
    "quart": ("Quart + Hypercorn + httpx", open_quart),
}
"""Title, and what starts it."""

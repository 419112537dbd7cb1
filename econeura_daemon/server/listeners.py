"""The sockets that the daemon listens on: opened here or passed by systemd."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import attrs

from econeura_daemon.core.errors import ListenError, SettingsError
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server.certificates import open_context
from econeura_daemon.server.context import is_loopback

BACKLOG = 1024
FIRST_PASSED_FD = 3
"""sd_listen_fds(3): passed descriptors begin after the standard three."""
_MAX_UNIX_PATH = 107
"""unix(7): ``sun_path`` holds 108 bytes, the last one NUL."""
_MAX_PORT = 65535


@attrs.define(eq=False)
class Listener:
    """One listening socket. Closing it removes the unix socket's file, if it is still ours."""

    socket: socket.socket
    path: str | None = None
    """The unix socket file that this process made."""
    inode: tuple[int, int] | None = None
    names: frozenset[str] = frozenset()
    """What the configuration calls the host: a ``Host`` header may say it."""
    scheme: str = "http"
    """``https``: it speaks TLS."""

    @property
    def url(self) -> str:
        """``http://host:port`` (or ``https``) with the real port, or ``unix:PATH``."""
        address = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return f"unix:{address}"
        host = f"[{address[0]}]" if self.socket.family == socket.AF_INET6 else address[0]
        return f"{self.scheme}://{host}:{address[1]}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.socket.family == socket.AF_UNIX or is_loopback(self.socket.getsockname()[0])

    def close(self) -> None:
        """Stop listening. Harmless when repeated."""
        self.socket.close()
        if self.path is not None:
            with contextlib.suppress(OSError):
                status = Path(self.path).lstat()
                if (status.st_dev, status.st_ino) == self.inode:
                    Path(self.path).unlink()
            self.path = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_listeners(settings: HttpSettings, environ: Mapping[str, str], *, has_tokens: bool) -> list[Listener]:
    """Open what ``http.bind`` names, or take what systemd passed (sd_listen_fds(3)), which wins.

    Blocks while it resolves names: call it before serving begins. Raises, with every socket closed again,
    `SettingsError` for what is wrong whenever it is tried, an address that others can reach while no token
    exists and a certificate that cannot be used included, and `ListenError` for what the machine refuses now.
    Both say what to do.
    """
    speaks_tls = open_context(settings) is not None
    opened: list[Listener] = []
    with contextlib.ExitStack() as undo:
        undo.callback(_close_all, opened)
        if passed := _passed_descriptors(environ):
            for fd in passed:
                opened += [_adopt(fd, f"descriptor {fd} passed by systemd", settings)]
        else:
            for index, bind in enumerate(settings.bind):
                opened.extend(_open(bind, f"$.http.bind[{index}]", settings))
        for listener in opened:
            if speaks_tls and listener.socket.family != socket.AF_UNIX:
                listener.scheme = "https"
            if not listener.is_local and not has_tokens:
                raise SettingsError.at(
                    "$.http.bind",
                    f"{listener.url} can be reached from other machines and there is no token yet: "
                    "create one with 'econeura-daemon token create', or bind to 127.0.0.1",
                )
        undo.pop_all()
    return opened


def _close_all(listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        listener.close()


def _passed_descriptors(environ: Mapping[str, str]) -> Sequence[int]:
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return ()  # meant for a parent that did not clear its environment
    count = environ.get("LISTEN_FDS", "0")
    if not count.isdecimal() or len(count) > 4:
        raise SettingsError.at("$LISTEN_FDS", f"expected a number, got {count!r}")
    return range(FIRST_PASSED_FD, FIRST_PASSED_FD + int(count))


def _open(bind: str, path: str, settings: HttpSettings) -> list[Listener]:
    """Open one entry of ``http.bind``, whose form the settings have checked."""
    if bind.startswith("unix:"):
        return [_open_unix(bind.removeprefix("unix:"), path, int(settings.unix_socket_mode, 8))]
    if bind.startswith("fd://"):
        return [_adopt(int(bind.removeprefix("fd://")), bind, settings)]
    host, _, port = bind.rpartition(":")
    if int(port) > _MAX_PORT:
        raise SettingsError.at(path, f"expected a port of at most {_MAX_PORT}, got {port}")
    return _open_tcp(host.strip("[]"), int(port), path, settings)


def _open_tcp(host: str, port: int, path: str, settings: HttpSettings) -> list[Listener]:
    """Listen on every address of ``host`` (``localhost`` has two); ``*``: all IPv4 of this machine."""
    name = "0.0.0.0" if host == "*" else host  # noqa: S104 - refused without a token
    shown = f"{host}:{port}" if ":" not in host else f"[{host}]:{port}"
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"{path}: the host of {shown!r} cannot be resolved: {error.strerror}") from None
    opened: list[Listener] = []
    missing: list[OSError] = []
    with contextlib.ExitStack() as undo:
        undo.callback(_close_all, opened)
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            try:
                sock = _bind_tcp(family, address, settings)
            except OSError as error:
                if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    missing.append(error)  # such as ::1 of localhost on a machine without IPv6
                    continue
                raise ListenError(f"{path}: {_bind_advice(shown, error)}") from error
            opened.append(Listener(sock, names=frozenset({host.lower()})))
        if not opened:
            raise ListenError(f"{path}: {_bind_advice(shown, missing[0])}") from missing[0]
        undo.pop_all()
    return opened


def _bind_tcp(family: int, address: object, settings: HttpSettings) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # What is bound is what was written: '[::]' is IPv6 alone, and no peer hides as ::ffff:a.b.c.d.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)  # type: ignore[arg-type]
        _listen(sock, settings)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen(sock: socket.socket, settings: HttpSettings) -> None:
    """Begin to listen; what is accepted inherits that unacknowledged bytes are given up after the send
    time-out.
    """
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, settings.send_timeout_ms)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.listen(BACKLOG)
    sock.setblocking(False)


def _bind_advice(shown: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{shown} is in use by another program: stop it, or choose another port (0: any free one)"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return (
            f"no permission to listen on {shown}: ports below 1024 need CAP_NET_BIND_SERVICE or a systemd "
            "socket; or choose a higher port"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{shown} is no address of this machine ('ip address' lists them)"
    return f"cannot listen on {shown}: {error.strerror}"


def _open_unix(name: str, path: str, mode: int) -> Listener:
    if not name or len(os.fsencode(name)) > _MAX_UNIX_PATH:
        raise SettingsError.at(
            path, f"expected a path of 1 to {_MAX_UNIX_PATH} bytes after 'unix:', got {name!r}"
        )
    name = str(Path(name).absolute())
    _clear_stale(name, path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        umask = os.umask(0o177)  # nobody else may connect before the mode is set
        try:
            sock.bind(name)
        finally:
            os.umask(umask)
        Path(name).chmod(mode)
        status = Path(name).lstat()
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ListenError(f"{path}: {_unix_advice(name, error)}") from error
    return Listener(sock, name, (status.st_dev, status.st_ino))


def _unix_advice(name: str, error: OSError) -> str:
    folder = Path(name).parent
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return f"the folder {folder} does not exist: create it, or choose another path"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"no permission to create a socket in {folder}: choose a folder that the daemon may write to"
    return f"cannot listen on {name}: {error.strerror}"


def _clear_stale(name: str, path: str) -> None:
    """Remove the socket file of a process that is gone; refuse to take it from one that lives."""
    try:
        status = Path(name).lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(f"{path}: {_unix_advice(name, error)}") from error
    if not stat.S_ISSOCK(status.st_mode):
        raise SettingsError.at(path, f"{name} exists and is no socket: remove it, or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog is life, not a reason to wait
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            pass
        except BlockingIOError:
            raise ListenError(f"{path}: another process listens on {name}: stop it first") from None
        except OSError as error:
            raise ListenError(f"{path}: {_unix_advice(name, error)}") from error
        else:
            raise ListenError(f"{path}: another process listens on {name}: stop it first")
    with contextlib.suppress(FileNotFoundError):
        Path(name).unlink()


def _adopt(fd: int, shown: str, settings: HttpSettings) -> Listener:
    """Take over a descriptor that somebody else bound; its file, if it has one, is theirs."""
    try:
        status = os.fstat(fd)
    except OSError as error:
        raise SettingsError.at("$.http.bind", f"{shown} is not open: {error.strerror}") from None
    if not stat.S_ISSOCK(status.st_mode):
        raise SettingsError.at("$.http.bind", f"{shown} is no socket")
    sock = socket.socket(fileno=fd)
    supported = {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}
    if sock.type != socket.SOCK_STREAM or sock.family not in supported:
        sock.detach()
        raise SettingsError.at("$.http.bind", f"{shown} is no TCP or unix stream socket")
    os.set_inheritable(fd, False)
    _listen(sock, settings)
    return Listener(sock)

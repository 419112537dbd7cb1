"""Run as a program: serves on sockets that were passed to it, one connection, and says what it found."""

import os
import sys

from econeura_daemon.core.errors import SettingsError
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server import open_listeners


def main():
    bind, pid, count = sys.argv[1:]
    environ = {"LISTEN_PID": str(os.getpid()) if pid == "ours" else pid, "LISTEN_FDS": count}
    try:
        listeners = open_listeners(HttpSettings(bind=(bind,)), environ, has_tokens=False)
    except SettingsError as error:
        sys.stdout.write(f"{error.flaws[0]}\n")
        return
    sys.stdout.write(" ".join(listener.url for listener in listeners) + "\n")
    sys.stdout.flush()
    for listener in listeners:
        assert not os.get_inheritable(listener.socket.fileno())
        listener.socket.setblocking(True)
        connection, _ = listener.socket.accept()
        connection.sendall(b"served")
        connection.close()
        listener.close()


if __name__ == "__main__":
    main()

"""``python -m econeura_daemon``."""

from econeura_daemon.cli import main

if __name__ == "__main__":
    main()

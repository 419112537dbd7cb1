"""The command line. `main` is its entry; each noun's commands are imported when one of them is asked for."""

from econeura_daemon.cli.root import main as main

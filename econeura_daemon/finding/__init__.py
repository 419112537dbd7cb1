"""Where the daemon of this machine is, for whoever calls it: light, so that a command starts at once."""

from econeura_daemon.finding.search import DEFAULT_URL as DEFAULT_URL
from econeura_daemon.finding.search import find_url as find_url

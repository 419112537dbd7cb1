"""The composition root, and the process around it: supervision, signals, systemd."""

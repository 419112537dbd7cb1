"""What keeps a process of ours running: signals, drain, supervised loops, the state directory, systemd, the rungs that
the daemon and the workers service share.
"""

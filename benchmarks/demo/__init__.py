"""`make demo`: the four workflows of ECONEURA's workers, with real processes on this machine."""

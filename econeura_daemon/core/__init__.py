"""Clock, ids, errors, settings, strict structuring: what everything else stands on, free of I/O."""

"""The reference workers service: a process of its own that finds mail in a real store and processes it."""

"""The steps of the decision list, one file each: by nature, alive, written, kept by a decorator; and what it is for."""

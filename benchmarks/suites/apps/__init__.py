"""The apps the suites drive, and who drives them."""

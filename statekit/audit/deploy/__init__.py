"""What configuration and deployment files say: settings that keep state in the process, and how many of it there are.

Two sources. Python: settings and calls of well-known libraries, in files whose facts say that it is worth a closer
look. Text: gunicorn's configuration, Procfile, Dockerfile, compose, Kubernetes, nginx and their like, read by small
parsers of our own that say nothing where they do not understand.

Nothing is imported here: which files there are is asked in each run, what stands in them only where one is new.
"""

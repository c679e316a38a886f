"""The Docker Engine API, as far as pyrun has it: one blueprint for each kind of object.

Source: docs.docker.com/reference/api/engine, versions 1.41 to 1.51.
"""

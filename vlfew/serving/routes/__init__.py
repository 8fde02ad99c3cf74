"""The routes of a server, one module a subject."""

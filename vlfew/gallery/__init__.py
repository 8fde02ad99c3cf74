"""Galleries: identities that are enrolled once and recognized ever after."""

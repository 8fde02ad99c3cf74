"""Published towers, held to the figures of the library that they come from."""

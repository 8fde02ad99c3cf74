"""A gallery over HTTP: REST, a web page, and a client. Everything but the client needs the extra `serve`."""

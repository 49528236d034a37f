"""`python -m opcua_server` is `enose`."""

from opcua_server.cli import app

app()

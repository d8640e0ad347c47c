"""What runs inside: loaded by the interpreter of the sandboxed environment, so only its standard library is used."""

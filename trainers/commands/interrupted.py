"""The exit status after Ctrl-C."""

EXIT_INTERRUPTED = 130

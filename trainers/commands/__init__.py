"""The commands of `forethought`, one a file; each adds itself to the parser with `add`."""

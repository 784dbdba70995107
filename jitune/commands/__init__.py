"""The commands of the command line, one a file: `add(commands)` makes its parser, `run(arguments)` does it."""

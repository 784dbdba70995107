"""Native tasks, each one file: a `TASK`, or `make(argument)` for those that take a file of yours."""

"""Weight files of other projects, one project a file."""

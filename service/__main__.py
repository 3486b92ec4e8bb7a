"""`python -m service` is the command `phiscope`."""

from service.cli import main

main()

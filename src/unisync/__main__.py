"""`python -m unisync` is the command line."""

from unisync.cli import main

if __name__ == "__main__":
    main()

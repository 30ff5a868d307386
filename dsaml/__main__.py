"""``python -m dsaml``."""

from dsaml.cli.main import main

if __name__ == "__main__":
    main()

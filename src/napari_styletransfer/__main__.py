"""`python -m napari_styletransfer` is the command line."""

from napari_styletransfer.cli.app import main

if __name__ == "__main__":
    main()

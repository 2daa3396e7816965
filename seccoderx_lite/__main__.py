"""`python -m seccoderx_lite` is the command line."""

from seccoderx_lite.cli.app import main

main()

"""The server: the chip's twin behind the API that language-model tools speak."""

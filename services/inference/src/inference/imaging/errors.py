"""Why an image cannot be examined. Each message tells the sender what is wrong and what to do."""


class ImageError(Exception):
    """The image cannot be examined as it was sent."""


class EmptyImage(ImageError):
    """The image has no bytes."""


class InvalidImage(ImageError):
    """The bytes cannot be decoded."""


class UnsupportedFormat(ImageError):
    """The bytes are an image in a format that is not accepted."""


class ImageTooLarge(ImageError):
    """The image, or the drawn file, has more bytes or pixels than the limits allow."""

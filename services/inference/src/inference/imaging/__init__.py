"""Images as files and as pixels: decoding and drawing."""

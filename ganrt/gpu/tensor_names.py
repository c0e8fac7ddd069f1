"""Names of the outputs that every program of a GPU session has beside its float image."""

PICTURES_TENSOR = "ganrt_pictures"
"""uint8 (N, H, W, C): the pictures of the batch."""
FINITENESS_TENSOR = "ganrt_level"
"""float32 (N): not finite where the image has a value that is not. uint8 pictures cannot show it. Engines in users'
caches have a tensor of this name, so it stays."""

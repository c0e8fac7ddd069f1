"""Sessions on an NVIDIA GPU: device and streams, double-buffered batches, latents drawn and pictures made there,
TensorRT engines and their cache, ONNX Runtime's CUDA provider."""

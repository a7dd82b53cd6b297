"""ONNX: graphs of every family, and the scorer that serves them."""

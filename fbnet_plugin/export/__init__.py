"""Networks as ONNX and TorchScript files, checked against PyTorch; int8."""

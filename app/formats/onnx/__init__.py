"""Nets from ONNX files."""

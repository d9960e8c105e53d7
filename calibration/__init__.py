"""From numbers seen to a quantized graph."""

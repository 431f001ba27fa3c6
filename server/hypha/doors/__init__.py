"""How peers get in. Every door authenticates alike (`handshake`) and hands frames to the broker."""

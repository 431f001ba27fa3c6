"""The switch: stamps senders, forwards frames, knows who is connected. Never looks into payloads."""

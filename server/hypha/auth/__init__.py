"""Who somebody is and what they may do. Pure decisions: no sockets, no event loop."""

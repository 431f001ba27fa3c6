"""A session over an in-memory byte stream, cut after every byte."""

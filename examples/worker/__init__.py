"""A real inference server, small enough to read: sentence embeddings and semantic search over HTTP.

It loads a MiniLM encoder, embeds part of the Python language reference into an index, and answers.
Its start costs several seconds of honest compute; that is what a snapshot saves.
"""

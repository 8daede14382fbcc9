"""Finding documents by words and by meaning. It knows nothing of facts: whoever plugs it in says what a document is."""

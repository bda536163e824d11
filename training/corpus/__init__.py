"""The embedded model's corpus: find sources, clean them, train a tokenizer, pack the tokens."""

"""The language server: editors' positions and intents in, the model runtime's fills out."""

"""The endpoints of llama.cpp's server and of OpenAI's completions, for the editors' plugins that speak to those."""

"""Models on several machines with Ray Serve; nothing outside of this folder imports Ray (the extra `cluster`)."""
